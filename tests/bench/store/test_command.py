"""The parts of `kvblend bench store`: tiers and codecs on real files, the table, the line and the picture."""

import argparse
import json
from pathlib import Path

import pytest
import redis
import torch

from api.cli.main import main
from bench.fidelity.codec_run import CodecCost
from bench.processes import redis_program, redis_server
from bench.store.codecs import CodecFigures, measure_codecs
from bench.store.command import TIERS, add_parser, tiers_of
from bench.store.plot import plot_frontier
from bench.store.table import as_object, render
from bench.store.tiers import TierFigures, measure_tiers, open_tiers
from blend.chunks.chunk import ChunkKV, make_record
from blend.errors import RequestError
from blend.store.codecs import NAMES, codec
from blend.store.file_format.chunk_file import encode
from tests.support.storage_servers import redis_url, s3_url

LAYERS, TOKENS, HEADS, SIZE = 2, 60, 2, 8
COST = CodecCost(0.01, 0.0005, 0.0004, 20)


@pytest.fixture
def chunks() -> list[ChunkKV]:
    generator = torch.Generator().manual_seed(0)
    shape = (LAYERS, TOKENS, HEADS, SIZE)
    records = [make_record("m", (1, 2), range(first, first + TOKENS)) for first in (10, 100)]
    return [
        ChunkKV(one, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
        for one in records
    ]


def figures(name: str, cost: CodecCost | None = COST) -> CodecFigures:
    return CodecFigures(name, 5000.0, 4.6, 0.5, 1.5, cost)


@pytest.mark.parametrize("name", ["raw", "uniform"])
def test_every_tier_gives_back_what_was_put_and_counts_its_bytes(
    tmp_path: Path, chunks: list[ChunkKV], name: str
) -> None:
    servers = {"redis": redis_url(), "s3": s3_url()}
    tiers = open_tiers(tmp_path, codec(name), chunks, TIERS, servers)
    found = measure_tiers(tiers, chunks, 2)
    names = ["memory", "disk, warm", "disk, cold", "redis", "s3"]
    assert [(one.name, one.codec) for one in found] == [(each, name) for each in names]
    file_bytes = sum(len(b"".join(encode(chunk, codec(name)))) for chunk in chunks)
    for tier, one in zip(tiers, found, strict=True):
        assert sum(tier.stored_bytes(chunk) for chunk in chunks) == file_bytes
        read = [tier.read(chunk) for chunk in chunks]
        plain = [tier.raw_read(chunk) for chunk in chunks]
        assert read == plain
        if tier.raw_kept is not None:
            assert read == [tier.raw_kept(chunk) for chunk in chunks]
            assert one.raw_kept_gb_s is not None and one.raw_kept_gb_s > 0
        assert sum(read) == (sum(chunk.num_bytes for chunk in chunks) if one.name == "memory" else file_bytes)
        assert min(one.read_gb_s, one.write_gb_s, one.raw_read_gb_s, one.kv_gb_s) > 0
        tier.close()
    for url, tier in zip(servers.values(), tiers[3:], strict=True):
        assert not list(tier.store.ids()), f"nothing is left on {url}"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--tiers", "none"], []),
        (["--tiers", "disk,redis"], ["disk", "redis"]),
        (["--redis", "redis://host"], ["memory", "disk", "redis"]),
        (["--s3", "s3://bucket", "--redis", "redis://host"], ["memory", "disk", "redis", "s3"]),
        (["--tiers", "tape"], "got tiers tape, expected some of memory"),
        (["--tiers", "s3"], "got tier s3 without its URL"),
    ],
)
def test_which_tiers_are_measured(flags: list[str], expected: list[str] | str) -> None:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["store", *flags])
    if isinstance(expected, list):
        assert tiers_of(args) == expected
        return
    with pytest.raises(RequestError, match=expected):
        tiers_of(args)


def test_a_redis_of_its_own_answers_and_ends() -> None:
    if redis_program() is None:
        pytest.skip("no redis-server")
    with redis_server(None) as url, redis.Redis.from_url(url) as client:
        assert client.ping()
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    with redis_server("redis://elsewhere") as url:
        assert url == "redis://elsewhere"


def test_codecs_are_measured_on_whole_files(chunks: list[ChunkKV]) -> None:
    found = measure_codecs(chunks, [codec(name) for name in NAMES], 2, {"uniform": COST})
    assert [one.name for one in found] == list(NAMES)
    for one in found:
        size = sum(len(b"".join(encode(chunk, codec(one.name)))) for chunk in chunks)
        assert one.bytes_per_token == size / (2 * TOKENS)
        assert one.ratio_to_bf16 == pytest.approx(2 * 2 * LAYERS * HEADS * SIZE / one.bytes_per_token)
        added = {"uniform": 0.0005, "raw": 0.0}.get(one.name)
        assert (None if one.cost is None else one.cost.kl_added) == added
    sizes = {one.name: one.bytes_per_token for one in found}
    assert sizes["raw"] > sizes["uniform"]


def test_the_line_and_the_table() -> None:
    tiers = [TierFigures("disk, warm", "raw", 4.0, 1.0, 5.0, 4.0, 4.4)]
    codecs = [figures("uniform"), figures("raw", None)]
    line = as_object(tiers, codecs)
    assert json.loads(json.dumps(line)) == line
    assert line["bench"] == "store"
    assert line["tiers"][0]["raw_read_gb_s"] == 5.0 and line["tiers"][0]["read_gb_s"] == 4.0
    assert line["codecs"][0]["kl_added"] == 0.0005 and line["codecs"][1]["kl_added"] is None
    table = render(tiers, codecs)
    assert line["tiers"][0]["raw_kept_gb_s"] == 4.4 and "91%" in table
    assert render([], codecs).startswith("codec")
    assert "80%" in table and "1/4.60" in table and "0.00050" in table and "5.0%" in table


def test_the_picture(tmp_path: Path) -> None:
    plot_frontier([figures("uniform"), figures("raw", None)], tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    plot_frontier([figures("raw", None)], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_an_unknown_codec_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "store", "--codecs", "zip"]) == 1
    assert "got codec 'zip', expected one of" in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.slow
def test_the_bench_itself_ends_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--tiers memory,disk --codecs raw,uniform --pool 1 --chunk-tokens 64 --repetitions 1 --json"
    assert main(["bench", "store", *flags.split()]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["name"] for one in line["codecs"]] == ["raw", "uniform"] and len(line["tiers"]) == 6
