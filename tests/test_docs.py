"""Pages: generated ones are current, links lead somewhere, and each block of commands is run or excused."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from api.cli.main import command_parser
from bench import cli as bench
from blend.chunks.chunk import ChunkRecord
from docs.generate import PAGES as GENERATED
from docs.generate import stale
from docs.generate_cli import commands
from tests.conftest import RandomIds
from tests.support.doc_blocks import FENCE, PAGES, ROOT, Block, blocks, in_group, place_for_commands, run

RUN_BY = {
    "engine": "tests/blend/vllm/engine/test_engine.py",
    "here": "tests/test_docs.py",
    "hf": "tests/test_docs.py",
    "served": "tests/test_readme.py",
    "session": "tests/test_readme.py",
    "stored": "tests/api/store_tool/test_store_commands.py",
}
"""Group of blocks, and the file of the test that runs them."""

MAX_README_LINES = 180
MAX_CHARACTERS = 110
HERE_S = 120

README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKDOWN = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs" / "log").glob("*.md")),
]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def place(block: Block) -> str:
    return f"{block.page}:{block.line}"


def kvblend_commands() -> list[str]:
    """Every `kvblend` command of any block, without its comment."""
    lines = [
        line
        for block in blocks()
        for command in block.commands
        if block.language != "python"
        for line in command.replace("\\\n", " ").splitlines()
    ]
    return [line.strip() for line in lines if line.strip().startswith("kvblend ")]


def named_in(page: Path) -> list[str]:
    """`kvblend` commands that a page names within its sentences and tables."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(found.split()) for found in re.findall(r"`(kvblend [^`]+)`", text)]


def prose_lines(text: str) -> list[str]:
    """Lines that can be broken: no tables, no code."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    return [line for line in text.splitlines() if not line.lstrip().startswith("|")]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_current() -> None:
    assert stale() == [], "run `make docs`"


def test_the_first_part_of_the_structure_page_is_short() -> None:
    head = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8").partition("## The tree")[0]
    assert len(head.splitlines()) <= 49


@pytest.mark.parametrize("block", list(blocks()), ids=place)
def test_every_block_is_run_by_a_test_or_says_that_it_is_not(block: Block) -> None:
    if block.group:
        assert f'in_group("{block.group}")' in (ROOT / RUN_BY[block.group]).read_text(encoding="utf-8")
    else:
        assert block.is_excused, (
            "name the group that runs it behind the language, or write `Not run by the tests`"
        )


@pytest.mark.parametrize("command", kvblend_commands())
def test_every_command_of_a_page_has_the_arguments_that_it_shows(command: str) -> None:
    argv = shlex.split(command, comments=True)[1:]
    if argv[0] == "bench":
        bench.command_parser().parse_args(argv[1:])
        return
    args, flags = command_parser().parse_known_args(argv)
    assert not flags or args.command == "serve", flags  # which passes all others on to vLLM


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_a_sentence_names_has_the_flags_that_it_names(page: Path) -> None:
    for command in named_in(page):
        known = [one for one in commands() if f"{command} ".startswith(f"{one.prog} ")]
        flags = set(re.findall(r"(?<= )--[a-z0-9-]+", command))
        if known and not command.startswith("kvblend serve"):  # which passes flags on to vLLM
            assert flags <= set(known[0]._option_string_actions), command
        else:
            begun = command.split(" --")[0].rstrip(" .")
            assert "COMMAND" in command or any(one.prog.startswith(begun) for one in commands()), command


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_sentences_name_are_there(page: Path) -> None:
    folders = "|".join(
        path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    for file in re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), file


@pytest.mark.parametrize("page", MARKDOWN, ids=name)
def test_lines_are_short(page: Path) -> None:
    if name(page) not in GENERATED:
        lines = prose_lines(page.read_text(encoding="utf-8"))
        assert [line for line in lines if len(line) > MAX_CHARACTERS] == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=name)
def test_a_page_begins_with_what_it_answers(page: Path) -> None:
    title, blank, first = page.read_text(encoding="utf-8").splitlines()[:3]
    assert title.startswith("# ") and not blank and first.startswith("This page says ")


def test_the_readme_is_one_that_is_read() -> None:
    assert len(README.splitlines()) <= MAX_README_LINES


def test_the_readme_names_every_page_and_every_room() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert f"]({name(page)})" in README, name(page)
    tree = README.partition("## The tree")[2].partition("## ")[0]
    rooms = [path for path in (ROOT / "blend").iterdir() if (path / "__init__.py").exists()]
    packages = [path for path in ROOT.iterdir() if (path / "__init__.py").exists()]
    for folder in (*packages, *rooms):
        assert f"{folder.name}/" in tree, name(folder)


def test_commands_that_need_no_engine(tmp_path: Path) -> None:
    environment = place_for_commands(tmp_path)
    for block in in_group("here"):
        for command in block.commands:
            printed = run(command, tmp_path, environment, HERE_S)
            assert printed, f"{place(block)} printed nothing"


def test_the_settings_file_that_a_page_shows_is_a_valid_one(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    [shown] = [source for language, _, source in FENCE.findall(page) if language == "yaml"]
    (tmp_path / "kvblend.yaml").write_text(shown)
    (tmp_path / "keys").write_text("anna:secret\n")
    printed = run("kvblend config --config kvblend.yaml", tmp_path, place_for_commands(tmp_path), HERE_S)
    assert re.search(r"serve\.drain_s +30.*kvblend\.yaml", printed), printed


def test_the_hugging_face_example(llama: PreTrainedModel, random_ids: RandomIds) -> None:
    prefix, question = random_ids(6), random_ids(5)
    records = [ChunkRecord(key, random_ids(20), prefix) for key in ("a", "b")]
    prompt_ids = (*prefix, *records[1].token_ids, *records[0].token_ids, *question)
    given = {
        "model": llama,
        "records": records,
        "prompt_ids": prompt_ids,
        "prompt": torch.tensor([prompt_ids]),
    }
    [example] = in_group("hf")
    exec(example.source, given)
    assert given["blended"].stats.counts.reused_tokens > 0  # type: ignore[attr-defined]
    assert given["answer"].shape[1] > len(prompt_ids)  # type: ignore[attr-defined]
