"""Extras, pinned versions and workflows agree with pyproject.toml, with the code and with the Makefile."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api.cli import main
from blend.models.convert import convert_gguf
from blend.store import codecs
from blend.store.remote import redis_client, s3_client
from precompute.readers import SourceFile, Unreadable, parse

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ENGINES = ("cpu", "cuda")


def read(path: str) -> None:
    document = parse(SourceFile(path, b"<p>some text", ""))
    assert isinstance(document, Unreadable)
    raise ValueError(document.reason)


NEEDING: dict[str, tuple[str, Callable[[], object]]] = {
    "bench": ("matplotlib", lambda: main.run_bench([])),
    "cachegen": ("constriction", lambda: codecs.codec("cachegen")),
    "gguf": ("accelerate", lambda: convert_gguf(Path("model.gguf"), Path("model"))),
    "html": ("bs4", lambda: read("page.html")),
    "pdf": ("pypdf", lambda: read("paper.pdf")),
    "redis": ("redis", lambda: redis_client.connect("redis://127.0.0.1")),
    "s3": ("obstore.store", lambda: s3_client.connect("s3://bucket", 1.0)),
}


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - {*ENGINES, "all", "dev"}))
def test_what_needs_a_missing_package_says_which_extra_brings_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, use = NEEDING[extra]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "precompute.html_text", raising=False)
    with pytest.raises(Exception, match=re.escape(f"pip install 'kvblend[{extra}]'")) as raised:
        use()
    assert "\n" not in str(raised.value)


def test_a_chunk_of_a_codec_that_is_not_installed_is_one_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tag = codecs.tag_of(codecs.codec("cachegen"))
    assert codecs.by_tag(tag) is not None
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert codecs.by_tag(tag) is None


def test_all_has_every_extra_but_engines_and_what_developers_need() -> None:
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {*ENGINES, "all", "bench", "dev"}


def required(engine: str) -> list[Requirement]:
    """What `make setup` installs: of the project itself and of all extras."""
    extras = [lines for extra, lines in EXTRAS.items() if extra not in ENGINES or extra == engine]
    found = [Requirement(line) for lines in (PROJECT["dependencies"], *extras) for line in lines]
    return [requirement for requirement in found if requirement.name != "kvblend"]


def pinned(engine: str) -> dict[str, Requirement]:
    lines = (ROOT / f"constraints-{engine}.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


@pytest.mark.parametrize("engine", ENGINES)
def test_each_required_package_is_pinned_to_a_version_in_its_range(engine: str) -> None:
    pins = pinned(engine)
    wrong = []
    for requirement in required(engine):
        pin = pins.get(canonicalize_name(requirement.name))
        version = next(iter(pin.specifier)).version if pin else "no version"
        if not pin or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement}: {version}")
    assert not wrong, f"run `make constraints`: {wrong}"


@pytest.mark.parametrize("engine", ENGINES)
def test_pins_are_versions_that_any_build_and_any_index_may_have(engine: str) -> None:
    for pin in pinned(engine).values():
        (exact,) = pin.specifier
        assert exact.operator == "==" and "+" not in exact.version and pin.url is None, str(pin)


def test_workflows_are_githubs_and_run_targets_of_the_makefile() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    check = Path(sys.executable).parent / "check-jsonschema"
    command = [check, "--builtin-schema", "vendor.github-workflows", *workflows]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    texts = [path.read_text(encoding="utf-8") for path in (*workflows, ROOT / ".ci" / "run")]
    called = {target for text in texts for target in re.findall(r"^(?: *- run: )?make (\w+)$", text, re.M)}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert called <= set(re.findall(r"^(\w+):", makefile, re.M)) and {"deps", "lint", "test"} <= called
