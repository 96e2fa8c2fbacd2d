"""Before the engine is there the socket answers 503, and afterwards it is the caller's."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from argparse import Namespace
from contextlib import suppress

import pytest

from api.server.starting import starting
from api.server.surface.tls import tls_of
from blend.errors import ConfigError
from tests.support.certificate import Certificate, certificate_in


@pytest.fixture
def listener():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Certificate:
    return certificate_in(tmp_path_factory.mktemp("tls"))


def flags(**said: object) -> Namespace:
    """vLLM's flags of TLS, where others are as they are by default."""
    files = dict.fromkeys(("ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "ssl_ciphers"))
    return Namespace(**{**files, "ssl_cert_reqs": int(ssl.CERT_NONE), **said})


def post(
    listener: socket.socket, body: bytes, trusted: ssl.SSLContext | None = None
) -> tuple[int, dict, str | None]:
    host = f"{'https' if trusted else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    url = f"{host}/v1/chat/completions"
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5, context=trusted)
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


def test_where_the_server_speaks_tls_so_does_its_start(listener, certificate):
    tls = tls_of(flags(ssl_certfile=certificate.certificate, ssl_keyfile=certificate.key))
    with starting(listener, tls):
        with socket.create_connection(listener.getsockname(), timeout=5) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with suppress(ConnectionResetError):
                assert not plain.recv(100).startswith(b"HTTP")
        with socket.create_connection(
            listener.getsockname(), timeout=5
        ):  # says nothing, and is in nobody's way
            for body in (b"{}", b"x" * 300_000):
                status, answer, _ = post(listener, body, certificate.trusted)
                assert status == answer["error"]["code"] == 503


def test_a_certificate_that_cannot_be_used_is_said_before_an_engine_starts(certificate, tmp_path):
    assert tls_of(flags()) is None
    wrong = [
        flags(ssl_keyfile=certificate.key),
        flags(ssl_certfile=tmp_path / "none.pem"),
        flags(ssl_certfile=certificate.key, ssl_keyfile=certificate.key),
    ]
    for one in wrong:
        with pytest.raises(ConfigError, match="expected matching PEM files|give --ssl-certfile"):
            tls_of(one)
