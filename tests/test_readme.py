"""The README's commands do what it says, run as they stand there."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.served import pass_on_verdicts
from tests.support.servers import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ("attention-sinks.md", "paged-attention.html")
CHARACTERS = 3500
"""Of each page: enough to ask about, and soon precomputed."""
LIMIT_S = 500


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


def commands() -> list[str]:
    return [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some of the demo's pages where the README's commands expect them."""
    place = tmp_path_factory.mktemp("readme")
    (place / "demo" / "docs").mkdir(parents=True)
    for page in PAGES:
        (place / "demo" / "docs" / page).write_text((ROOT / "demo" / "docs" / page).read_text()[:CHARACTERS])
    (place / "bin").mkdir()
    launcher = place / "bin" / "kvblend"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -m api.cli "$@"\n')
    launcher.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "KVBLEND_STORE": str(place / "store")}


def run(command: str, place: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["sh", "-c", command], cwd=place, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(command: str, place: Path, environment: dict[str, str]) -> Iterator[str]:
    """The README's server, on a free port in place of its own."""
    port = str(free_port())
    with (place / "serve.log").open("w") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command.replace('8000', port)}"],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + LIMIT_S
        while not healthy(port):
            assert process.poll() is None and time.monotonic() < deadline, (place / "serve.log").read_text()
            time.sleep(1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def healthy(port: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_the_readme_shows_a_whole_session() -> None:
    words = [command.split()[:2] for command in commands()]
    assert [pair[1] for pair in words] == ["precompute", "ask", "doctor", "serve"]


@pytest.mark.engine
@pytest.mark.model
@pytest.mark.timeout(1800)  # four starts of the engine
def test_the_first_session(place: Path, environment: dict[str, str], store: Path) -> None:
    pass_on_verdicts(store, place / "store")  # the doctor looks for itself, later
    precompute, ask, doctor, serve = commands()
    assert "2 documents" in run(precompute, place, environment)
    asked = run(ask, place, environment)
    assert "times sooner" in asked and "paged-attention.html" in asked
    stored = chunk_files(place)
    assert re.search(r"passed +True", run(doctor, place, environment))
    assert stored and chunk_files(place) == stored, "the self-check leaves no chunk"
    with serving(serve, place, environment) as port:
        curl = next(block for block in blocks("sh") if block.startswith("curl"))
        answered = run(curl.replace("8000", port), place, environment)
        assert '"reused_tokens":' in answered and '"fallback":null' in answered
        client = next(block for block in blocks("python") if "OpenAI(" in block)
        given = "question = 'What is an attention sink?'\n" + chunk_texts(place)
        printed = run_python(given + client.replace("8000", port), place, environment)
        assert int(printed.split()[-1]) > 0


@pytest.mark.engine
@pytest.mark.model
def test_the_python_example(place: Path, environment: dict[str, str]) -> None:
    example = next(block for block in blocks("python") if "from blend import Engine" in block)
    printed = run_python(example, place, environment)
    assert "North Sea" in printed and int(printed.split()[-1]) > 0


def chunk_files(place: Path) -> set[Path]:
    return set((place / "store").rglob("*.safetensors"))


def chunk_texts(place: Path) -> str:
    """Python that reads two chunks of the collection that the README's first command made."""
    return (
        "from pathlib import Path\n"
        "from retriever.collection import Collection\n"
        f"chunks = Collection.open(Path({str(place / 'store')!r}), 'docs').chunks\n"
        "chunk_texts = [chunks[2].text, chunks[1].text]\n"
    )


def run_python(source: str, place: Path, environment: dict[str, str]) -> str:
    (place / "example.py").write_text(source)
    return run(f"{sys.executable} example.py", place, environment)
