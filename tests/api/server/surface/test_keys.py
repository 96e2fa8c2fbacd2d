"""Keys: where they come from, what they open, and whose namespace they stand for."""

import os
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from api.server.settings import ServeConfig
from api.server.surface.draining import Drain
from api.server.surface.install import Surface, install_surface
from api.server.surface.keys import VARIABLE, KeyRing, make_key, parse_keys
from api.server.surface.request import NAMESPACE, namespace_in_force
from blend.errors import ConfigError


@pytest.fixture(autouse=True)
def no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def client(ring: KeyRing, root_path: str = "") -> TestClient:
    app = FastAPI(root_path=root_path)
    install_surface(app, Surface(ring, ServeConfig(), Drain(1)))

    @app.get("/health")
    @app.get("/v1/models")
    @app.get("/metrics")
    async def answer(request: Request) -> dict[str, str]:
        return {"namespace": request.scope[NAMESPACE], "in_force": namespace_in_force.get()}

    @app.websocket("/v1/realtime")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json({"namespace": socket.scope[NAMESPACE]})
        await socket.close()

    return TestClient(app)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_keys_everything_is_open_and_nobodys():
    assert client(KeyRing()).get("/v1/models").json() == {"namespace": "", "in_force": ""}


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/docs", "/openapi.json", "/nowhere", "/health/"])
def test_a_key_is_asked_for_everywhere_but_at_the_health_check(path):
    asked = client(KeyRing(secrets=["s3cret"]))
    assert asked.get("/health").status_code == 200
    for headers in ({}, bearer("wrong"), bearer(""), {"Authorization": "Basic s3cret"}, bearer("s3cre")):
        refused = asked.get(path, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        error = refused.json()["error"]
        assert (error["type"], error["param"], error["code"]) == ("AuthenticationError", None, 401)
    assert asked.get(path, headers=bearer("s3cret"), follow_redirects=False).status_code != 401
    assert asked.get(path, headers={"X-API-Key": "s3cret"}, follow_redirects=False).status_code != 401


def test_websockets_are_guarded_too():
    asked = client(KeyRing(secrets=["s3cret"]))
    with pytest.raises(WebSocketDenialResponse) as refused, asked.websocket_connect("/v1/realtime"):
        pass
    assert refused.value.status_code == 401
    with asked.websocket_connect("/v1/realtime", headers=bearer("s3cret")) as socket:
        assert socket.receive_json()["namespace"] == make_key("s3cret").namespace


def test_a_root_path_is_no_way_around():
    asked = client(KeyRing(secrets=["s3cret"]), "/llm")
    assert asked.get("/llm/health").status_code == 200
    assert asked.get("/llm/v1/models").status_code == 401
    assert asked.get("/llm/v1/models", headers=bearer("s3cret")).status_code == 200
    assert asked.get("/health/v1/models").status_code == 401


def test_a_files_keys_are_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "keys"
    file.write_text("# ours\nann:one\n\ntwo\n")
    ring = KeyRing(file)
    assert ring.namespace_of("one") == make_key("x", "ann").namespace
    assert ring.namespace_of("two") == make_key("two").namespace
    file.write_text("ann:three\n")
    os.utime(file, ns=(1, 1))
    assert ring.namespace_of("one") is None
    assert ring.namespace_of("three") == make_key("x", "ann").namespace
    file.write_text("with spaces in it\n")
    os.utime(file, ns=(2, 2))
    assert ring.namespace_of("three") is not None
    assert "keeping the loaded keys" in caplog.text and "spaces in it" not in caplog.text
    file.write_text("")
    os.utime(file, ns=(3, 3))
    assert ring.namespace_of("three") is None
    assert ring, "an emptied file locks the server and does not open it"


def test_keys_of_all_sources_are_one_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "keys.yaml"
    file.write_text("- {name: ann, key: one, namespace: team-a}\n- bob:two\n")
    monkeypatch.setenv(VARIABLE, "cid:three, four")
    ring = KeyRing(file, ["five"])
    assert ring.namespace_of("one") == "team-a"
    assert ring.namespace_of("three") == make_key("x", "cid").namespace
    assert all(ring.namespace_of(key) for key in ("two", "four", "five"))
    assert len({ring.namespace_of(key) for key in ("one", "two", "three", "four", "five")}) == 5


@pytest.mark.parametrize(
    ("text", "is_yaml", "message"),
    [
        ("one\nna me:\n", False, "keys, key 2: .*printable"),
        ("{a: b}", True, "expected a list"),
        ("- {key: a, colour: b}", True, "expected a string, or a mapping"),
        ("- {key: 7}", True, "expected a string, or a mapping"),
        ("- {key: a, namespace: ../up}", True, "namespace"),
        ("a: [", True, "expected YAML"),
    ],
)
def test_what_is_no_key_is_said_without_repeating_it(text, is_yaml, message):
    with pytest.raises(ConfigError, match=message):
        parse_keys(text, "keys", is_yaml=is_yaml)


def test_a_file_without_keys_is_an_error_at_the_start(tmp_path: Path):
    (tmp_path / "keys").write_text("# none yet\n")
    with pytest.raises(ConfigError, match="no key"):
        KeyRing(tmp_path / "keys")
    with pytest.raises(ConfigError, match="cannot read"):
        KeyRing(tmp_path / "nowhere")
