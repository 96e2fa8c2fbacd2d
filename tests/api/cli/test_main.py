"""The command line, up to where an engine would start."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from api.cli import main as main_module
from api.cli.ask import as_object, both, figures
from api.cli.compare import Comparison, Parting, Reply
from api.cli.main import main
from api.server.chat.report import blend_object
from blend.report.stats import BlendStats, ChunkUse, StageTimes, TokenCounts

STATS = BlendStats(
    counts=TokenCounts(exact_tokens=4, reused_tokens=12, recomputed_tokens=3, cold_tokens=1),
    times=StageTimes(recompute_ms=12.4),
    chunks=(ChunkUse("p", 0, 4), ChunkUse("c1", 4, 10), ChunkUse("c2", 15, 5)),
    context_tokens=20,
    ratio=0.15,
    selector="deviation",
)
REPLY = Reply("Rome.", 20.0, blend_object(STATS, {"c1": "a.md", "c2": "a.md"}.get))


def test_help_is_quick_and_loads_no_engine():
    code = "import sys, api.cli.main\ntry: api.cli.main.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'vllm', 'transformers', 'openai'} & set(sys.modules)))"
    root = Path(__file__).parents[3]
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    *text, loaded = shown.stdout.splitlines()
    assert loaded == "[]"
    for command in ("precompute", "serve", "ask", "doctor"):
        assert any(line.strip().startswith(command) for line in text)


WITHOUT_BENCH = """
import importlib.util as util, sys
find = util.find_spec
util.find_spec = lambda name, *rest: None if name == "bench" else find(name, *rest)
from api.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
assert not any(name.split(".")[0] == "bench" for name in sys.modules)
sys.exit(status)
"""


def test_help_works_and_benchmarks_are_refused_where_what_measures_is_not_installed():
    root = Path(__file__).parents[3]

    def run(*argv):
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_BENCH, *argv],
            capture_output=True,
            text=True,
            check=False,
            cwd=root,
        )

    shown, refused = run("--help"), run("bench", "ttft", "--repeat", "1")
    assert shown.returncode == 0 and "precompute" in shown.stdout
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr == "kvblend: `kvblend bench` needs bench: pip install 'kvblend[bench]'\n"


def test_what_benchmarks_import_comes_with_their_extra():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extra = {re.match(r"[\w-]+", line)[0] for line in project["optional-dependencies"]["bench"]}
    assert set(main_module._BENCH_NEEDS) - {"bench"} <= extra


def test_benchmarks_have_a_help_of_their_own(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--help"])
    assert ended.value.code == 0
    assert "usage: kvblend bench" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("kvblend ")


@pytest.mark.parametrize(
    "argv",
    [[], ["ask"], ["ask", "q", "--collection", "c", "--nonsense"], ["sing"], ["bench"], ["bench", "x"]],
)
def test_wrong_usage_is_status_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: kvblend" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["ask", "Why?", "--collection", "docs", "--url", "http://127.0.0.1:9"],
        ["ask", "Why?", "--collection", "no-such-collection"],
        ["ask", "Why?", "--collection", "docs", "--top-k", "0"],
        ["ask", "Why?", "--collection", "docs", "--filter", '{"type": "like"}'],
    ],
)
def test_what_went_wrong_is_one_line_and_status_1(argv, tmp_path, capsys):
    assert main([*argv, "--store", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("kvblend: ")
    assert captured.err.count("\n") == 1


def test_figures_name_each_source_once_and_each_kind_of_token():
    text = figures(REPLY)
    assert "Sources: a.md\n" in text
    assert "20 tokens (4 exact, 12 reused, 3 recomputed, 1 cold); ratio 0.15, selector deviation" in text
    assert "recompute 12 ms" in text
    assert "first token: 20 ms" in text


def test_figures_of_an_answer_that_was_not_blended_say_why():
    plain = blend_object(BlendStats(fallback="no known chunk in the prompt"), {}.get)
    text = figures(Reply("", 5.0, plain))
    assert "Not blended: no known chunk in the prompt" in text
    assert "Sources" not in text, "no known chunk: nothing is said of sources"


def test_the_json_object_holds_both_arms():
    comparison = Comparison(REPLY, Reply("Rome!", 50.0, {}), Parting(2, ".", "!", 0.5))
    told = json.loads(json.dumps(as_object(REPLY, comparison)))
    assert set(told) == {"answer", "ttft_ms", "blend", "full", "speedup", "parting"}
    assert told["full"] == {"answer": "Rome!", "ttft_ms": 50.0}
    assert told["speedup"] == 2.5
    assert told["blend"]["reused_tokens"] == 12
    assert told["parting"] == {"token": 2, "blended": ".", "full": "!", "nats": 0.5}
    alone = as_object(REPLY)
    assert (alone["full"], alone["speedup"], alone["parting"]) == (None, None, None)


def test_people_are_told_how_near_the_tie_was_where_the_answers_part():
    full = Reply("Rome!", 50.0, {})
    assert "They part at token 2: '.' or '!'; full prefill finds its own choice 0.50 nats likelier" in both(
        Comparison(REPLY, full, Parting(2, ".", "!", 0.5))
    )
    assert "does not count the other among its 20 likeliest" in both(
        Comparison(REPLY, full, Parting(2, ".", "!", None))
    )
    assert "the same, token for token" in both(Comparison(REPLY, REPLY))
