"""`kvblend store --tier remote`: the same verbs on what machines share."""

import pytest

from api.store_tool import checking
from bench.processes import free_port
from blend.store.remote.exchange import Exchange
from blend.store.remote.remote import RemoteStore
from tests.api.store_tool.conftest import Commands, Shop
from tests.api.store_tool.test_store_commands import NUM_CHUNKS, plain_id
from tests.support.storage_servers import RedisServer

TIER = ("--tier", "remote")


@pytest.fixture
def server(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A server that holds what the shop does."""
    server = RedisServer()
    url = f"redis://127.0.0.1:{server.port}"
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", url)
    Exchange(shop.chunks, RemoteStore(url, shop.mark)).flush(shop.chunks.ids())
    return server


@pytest.mark.usefixtures("server")
def test_what_is_there_is_shown(shop: Shop, commands: Commands) -> None:
    near, far = commands.json("ls"), commands.json("ls", *TIER)
    for one, other in zip(near, far, strict=True):
        assert one.pop("used_s") == pytest.approx(other.pop("used_s"), abs=100)
        assert one == other
    (shown,) = commands.json("show", far[0]["id"], *TIER)
    assert shown["file"].startswith("redis://127.0.0.1") and shown["parts"]["kv"].startswith("float32")
    (counted,) = commands.json("stats", *TIER)
    assert (counted["chunks"], counted["unneeded"], counted["model"]) == (NUM_CHUNKS, 0, "fake")


def test_verify_reads_every_byte_and_repair_drops(
    shop: Shop, commands: Commands, server: RedisServer
) -> None:
    assert commands.ok("verify", *TIER) == f"{NUM_CHUNKS} checked, 0 damaged\n"
    key = plain_id(shop, "one")
    with server.client as client:
        name = f"kvblend:{shop.mark}:{{{key}}}"
        value = bytearray(client.get(name))
        value[-1] ^= 1
        client.set(name, bytes(value))
    commands.ok("ls", *TIER)
    status, out, _ = commands.run("verify", *TIER)
    assert status == checking.EXIT_FAILED and out.startswith(f"{key}: ")
    commands.ok("verify", "--repair", *TIER)
    assert len(commands.json("ls", *TIER)) == NUM_CHUNKS - 1
    assert len(commands.json("ls")) == NUM_CHUNKS


def test_packed_chunks_are_shown_as_they_lie_there(
    shop: Shop, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RedisServer()
    url = f"redis://127.0.0.1:{server.port}"
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", url)
    commands.ok("recompress", "--codec", "uniform")
    Exchange(shop.chunks, RemoteStore(url, shop.mark)).flush(shop.chunks.ids())
    near, far = commands.json("ls"), commands.json("ls", *TIER)
    assert [(one["codec"], one["bytes"]) for one in far] == [(one["codec"], one["bytes"]) for one in near]
    packed = next(one["id"] for one in far if one["codec"] == "uniform")
    assert "by uniform/2: float32" in commands.ok("show", packed, *TIER)
    assert commands.ok("verify", *TIER) == f"{NUM_CHUNKS} checked, 0 damaged\n"


@pytest.mark.usefixtures("server")
def test_pins_removal_and_eviction(shop: Shop, commands: Commands) -> None:
    keys = sorted(shop.chunks.ids())
    commands.ok("pin", keys[0], *TIER)
    assert [one["id"] for one in commands.json("ls", *TIER) if one["pinned"]] == [keys[0]]
    assert "is needed by" in commands.fails("rm", keys[1], *TIER)
    assert commands.json("rm", keys[1], "--force", *TIER) == {"removed": [keys[1]]}
    size = next(one["bytes"] for one in commands.json("ls", *TIER) if one["id"] == keys[0])
    commands.ok("gc", "--max-bytes", str(size), *TIER)
    assert [one["id"] for one in commands.json("ls", *TIER)] == [keys[0]]
    commands.ok("unpin", keys[0], *TIER)
    assert set(shop.chunks.ids()) == set(keys), "the folder keeps its own"


@pytest.mark.usefixtures("server")
def test_what_makes_no_sense_on_a_remote_says_so(commands: Commands) -> None:
    assert "other machines that use the remote" in commands.fails("gc", "--unneeded", *TIER)
    assert "only chunks of the folder" in commands.fails("export", "x.tar", *TIER)
    assert "only chunks of the folder" in commands.fails("import", "x.tar", *TIER)
    assert "packed again in the folder" in commands.fails("recompress", "--codec", "uniform", *TIER)


def test_a_remote_that_cannot_be_used_is_one_line(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no remote is configured" in commands.fails("ls", *TIER)
    monkeypatch.setenv("KVBLEND_STORE_REMOTE", f"redis://:swordfish@127.0.0.1:{free_port()}")
    error = commands.fails("ls", *TIER)
    assert "cannot be used" in error and "swordfish" not in error
