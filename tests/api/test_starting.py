"""Before the engine is there the socket answers 503, and afterwards it is the caller's."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from api.starting import starting


@pytest.fixture
def listener():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def post(listener: socket.socket, body: bytes) -> tuple[int, dict, str | None]:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions"
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    with refused.value as answer:
        return answer.code, json.load(answer), answer.headers["Retry-After"]


def test_requests_are_told_to_come_back(listener):
    with starting(listener):
        for body in (b"{}", b"x" * 300_000):
            status, answer, retry = post(listener, body)
            assert status == answer["error"]["code"] == 503
            assert answer["error"]["type"] == "ServiceUnavailableError"
            assert int(retry) > 0


def test_the_socket_is_the_callers_again_and_loses_no_connection(listener):
    with starting(listener):
        pass
    with socket.create_connection(listener.getsockname(), timeout=5) as client:
        listener.listen()
        listener.settimeout(5)
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"


def test_an_engine_that_fails_to_start_frees_the_socket(listener):
    with pytest.raises(RuntimeError, match="no engine"), starting(listener):
        raise RuntimeError("no engine")
    listener.close()
