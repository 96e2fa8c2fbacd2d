"""What `make dist` builds works away from the tree: a wheel in a fresh environment, asked one question."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from tests.support.server_process import ROOT, START_S

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution; the wheel is built from the latter."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), place=folder)
    return folder


@pytest.fixture(scope="module")
def programs(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment's programs: the wheel is its own, all libraries are this environment's."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), place=folder)
    python = str(folder / "bin" / "python")
    (wheel,) = dist.glob("*.whl")
    install = ("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--no-compile")
    run(sys.executable, *install, str(wheel), place=folder)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(*command: str, place: Path) -> str:
    """Run a command outside the tree, without what leads Python into it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=START_S, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_an_installed_wheel_knows_its_vllm_and_has_its_data(programs: Path, tmp_path: Path) -> None:
    names = ["page/index.html", "docs/kv-cache.md", "questions.json"]
    script = (
        "import json\nfrom importlib.resources import files\n"
        "import blend\nfrom blend.vllm.version import check_vllm_version\n"
        f"data = [files('demo') / name for name in {names}]\n"
        "print(json.dumps([blend.__file__, check_vllm_version(), [path.is_file() for path in data]]))\n"
    )
    place, engine, has_data = json.loads(run(str(programs / "python"), "-c", script, place=tmp_path))
    assert Path(place).is_relative_to(programs.parent)
    assert engine.startswith("vllm")
    assert has_data == [True, True, True]


@pytest.mark.engine
def test_an_installed_wheel_answers_a_question(programs: Path, store: Path, tmp_path: Path) -> None:
    command = (str(programs / "kvblend"), "ask", "What is an attention sink?", "--collection", "docs")
    options = ("--store", str(store), "--max-tokens", "4", "--json")
    answered = json.loads(run(*command, *options, place=tmp_path))
    assert answered["answer"] and answered["blend"]["reused_tokens"] > 0


def test_a_source_distribution_has_what_is_needed_to_build_from_it(dist: Path) -> None:
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "blend/vllm/plugin.py", "demo/page/index.html"} <= names
