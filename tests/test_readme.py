"""The commands of the README's session, and of the pages that ask a server, run as they stand there."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bench.processes import free_port
from tests.support.doc_blocks import Block, in_group, place_for_commands, run, run_python
from tests.support.shared_server import pass_on_verdicts

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("attention-sinks.md", "paged-attention.html")
CHARACTERS = 3500
"""Of each document: enough to ask about, and soon precomputed."""
UPLOADED = ("start.md", "handbook.md")
LIMIT_S = 500

pytestmark = [pytest.mark.engine, pytest.mark.model]


@dataclass(frozen=True)
class Session:
    """The README's session up to its server.

    Attributes:
        port: the server's, in place of 8000.
        precomputed: what the first command printed.
    """

    place: Path
    environment: dict[str, str]
    port: str
    precomputed: str

    def run(self, block: Block) -> str:
        """What a block prints."""
        return "".join(self._run(block.language, command) for command in block.commands)

    def _run(self, language: str, command: str) -> str:
        runner = run_python if language == "python" else run
        return runner(command.replace("8000", self.port), self.place, self.environment, LIMIT_S)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Session]:
    """The first block: some of the demo's documents are precomputed; a server starts on a free port."""
    place = tmp_path_factory.mktemp("readme")
    (place / "demo" / "docs").mkdir(parents=True)
    for name in DOCUMENTS:
        (place / "demo" / "docs" / name).write_text((ROOT / "demo" / "docs" / name).read_text()[:CHARACTERS])
    for name in UPLOADED:
        (place / name).write_text(f"# {name}\n\nThe lighthouse of Ostend is lit from dusk till dawn.\n")
    environment = place_for_commands(place)
    pass_on_verdicts(store, place / "store")
    precompute, serve = in_group("session")[0].commands
    printed = run(precompute, place, environment, LIMIT_S)
    with serving(serve, place, environment) as port:
        yield Session(place, environment, port, printed)


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


@pytest.mark.timeout(1200)  # two starts of the engine
def test_the_readmes_first_session(session: Session) -> None:
    assert "2 documents" in session.precomputed
    _, ask, curl, client = in_group("session")
    asked = session.run(ask)
    assert "times sooner" in asked and "paged-attention.html" in asked
    answered = session.run(curl)
    assert '"reused_tokens":' in answered and '"fallback":null' in answered
    assert int(session.run(client).split()[-1]) > 0


@pytest.mark.timeout(600)
def test_what_other_pages_ask_a_server(session: Session) -> None:
    for block in in_group("served"):
        printed = session.run(block)
        where = f"{block.page}:{block.line}"
        assert '"error":{' not in printed, f"{where} printed {printed}"
        if "reused tokens:" in block.source:
            tokens = re.findall(r"^reused tokens: (\d+)$", printed, flags=re.M)
            assert int(tokens[-1]) > 0, f"{where} printed {printed}"
