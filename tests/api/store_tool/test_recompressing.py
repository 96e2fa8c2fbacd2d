"""`kvblend store recompress`: what it packs, what it refuses, and what a kill leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.cli.main import main
from api.store_tool import recompressing
from tests.api.store_tool.conftest import Commands, Shop

RAW_ONLY = 2
"""The prefix, in each of its two versions."""


def files(shop: Shop) -> dict[str, bytes]:
    return {key: shop.chunks.path(key).read_bytes() for key in shop.chunks.ids()}


def test_chunks_are_packed_and_shown_so(shop: Shop, commands: Commands) -> None:
    before = files(shop)
    done = commands.json("recompress", "--codec", "uniform")
    assert (done["codec"], done["recompressed"], done["unchanged"]) == (
        "uniform",
        len(before) - RAW_ONLY,
        RAW_ONLY,
    )
    assert (done["refused"], done["damaged"]) == ([], [])
    after = files(shop)
    assert done["bytes_before"] == sum(map(len, before.values()))
    assert done["bytes"] == sum(map(len, after.values()))
    listed = commands.json("ls")
    codecs = ["raw"] * RAW_ONLY + ["uniform"] * (len(before) - RAW_ONLY)
    assert sorted(one["codec"] for one in listed) == codecs
    assert all(one["bytes_per_token"] == one["bytes"] / one["tokens"] for one in listed)
    (stats,) = commands.json("stats")
    assert stats["codecs"] == {"uniform": len(before) - RAW_ONLY, "raw": RAW_ONLY}
    assert stats["per_token_bytes"] == round(stats["bytes"] / stats["tokens"])
    assert "2 raw, 6 uniform" in commands.ok("stats")
    packed = next(one["id"] for one in listed if one["codec"] == "uniform")
    assert "by uniform/2: float32" in commands.ok("show", packed)
    assert commands.json("verify")["damaged"] == []
    again = commands.json("recompress", "--codec", "uniform")
    assert again["recompressed"] == 0 and files(shop) == after


def test_what_is_lossy_is_not_packed_again_unless_asked_for(shop: Shop, commands: Commands) -> None:
    commands.ok("recompress", "--codec", "cachegen")
    before = files(shop)
    status, out, _ = commands.run("recompress", "--codec", "raw")
    assert status == recompressing.EXIT_REFUSED
    assert "6 refused: a lossy codec has packed them, and no other restores what it dropped" in out
    assert files(shop) == before
    commands.ok("recompress", "--codec", "raw", "--from-lossy")
    assert {one["codec"] for one in commands.json("ls")} == {"raw"}


def test_a_collection_or_some_chunks_alone(shop: Shop, commands: Commands) -> None:
    key = min(one["id"] for one in commands.json("ls") if one["behind_tokens"])
    assert commands.json("recompress", key, "--codec", "uniform")["recompressed"] == 1
    commands.ok("recompress", "--codec", "uniform", "--collection", "two")
    assert {one["codec"] for one in commands.json("ls") if one["collections"] == ["one"]} <= {
        "raw",
        "uniform",
    }


def test_a_damaged_chunk_is_told_of_and_left(shop: Shop, commands: Commands) -> None:
    key = min(shop.chunks.ids())
    data = bytearray(shop.chunks.path(key).read_bytes())
    data[-1] ^= 1
    shop.chunks.path(key).write_bytes(data)
    status, out, _ = commands.run("recompress", "--codec", "uniform")
    assert status == recompressing.EXIT_REFUSED and "1 damaged: kvblend store verify names them" in out
    assert shop.chunks.path(key).read_bytes() == data


def test_an_unknown_codec_is_an_error(commands: Commands) -> None:
    assert "got codec 'zip', expected one of: raw, uniform" in commands.fails("recompress", "--codec", "zip")


def test_export_and_import_keep_packed_files_as_they_are(
    shop: Shop, commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.ok("recompress", "--codec", "cachegen")
    commands.ok("export", str(tmp_path / "all.tar"))
    other = tmp_path / "other"
    assert main(["store", "import", str(tmp_path / "all.tar"), "--store", str(other)]) == 0
    folder = other / "models" / shop.mark / "chunks"
    assert {path.stem: path.read_bytes() for path in folder.glob("*.safetensors")} == files(shop)


@pytest.mark.slow
def test_a_run_that_was_killed_is_gone_on_with(shop: Shop, commands: Commands) -> None:
    before, random_ = files(shop), random.Random(0)
    for _ in range(5):
        job = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "api.cli",
                "store",
                "recompress",
                "--codec",
                "cachegen",
                "--store",
                str(shop.path),
            ],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        time.sleep(random_.uniform(0.5, 4.0))
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert commands.json("verify")["damaged"] == []
        assert set(files(shop)) == set(before)
    commands.ok("recompress", "--codec", "cachegen")
    whole = files(shop)
    for key, data in before.items():
        shop.chunks.put_file(key, [data])
    commands.ok("recompress", "--codec", "cachegen")
    assert files(shop) == whole
    assert json.loads(commands.ok("verify", "--json"))["damaged"] == []
