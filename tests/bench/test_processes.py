"""A server's process: waited for, and stopped whatever happens."""

import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from bench.processes import http_server
from blend.errors import EngineNotReady

HEALTHY = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Answer.asked += 1
        self.send_response(503 if Answer.asked == 1 else 200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[-1])), Answer).serve_forever()
"""


def test_it_is_waited_for_and_stopped_also_after_an_error(tmp_path: Path) -> None:
    with suppress(KeyError), http_server([sys.executable, "-c", HEALTHY], tmp_path / "log") as url:
        assert httpx.get(f"{url}/health").status_code == 200
        raise KeyError
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
    assert "503" in (tmp_path / "log").read_text()


def test_one_that_ends_says_why(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('no such collection')"]
    with (
        pytest.raises(EngineNotReady, match="(?s)did not start.*no such collection"),
        http_server(broken, tmp_path / "log"),
    ):
        pass
