"""`kvblend bench soak`: many novel combinations in a row, and what becomes of time, memory and the store."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from math import perm
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.arguments import add_chunks, add_ending, positive
from bench.progress import open_progress
from bench.report import finish, prepare_out, table
from blend.errors import RequestError

if TYPE_CHECKING:
    from bench.combinations import Combination
    from bench.soak.soaking import Drift, Sample
    from blend.vllm.engine.engine import Engine

QUESTION = "What do these pages say about memory?"
_GIB = 2**30


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "soak",
        help="many novel combinations in a row: time to first token, memory and store over time",
        description="Blends one combination of chunks after another, none of them twice.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--combinations", type=positive, default=1000, metavar="N", help="in a row (default: %(default)s)")
    add_chunks(parser, pool=24)
    add("--passages", type=positive, default=6, metavar="K", help="chunks of a prompt (default: %(default)s)")
    add("--max-tokens", type=positive, default=1, help="of each answer (default: %(default)s)")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    from bench.soak.plot import plot_soak
    from bench.soak.soaking import drifts

    _check(args)
    prepare_out(args.out)
    samples = _measure(args)
    figures = drifts(samples)
    details = {"samples": [asdict(one) for one in samples]}
    line = _line(args, samples, figures)
    finish(
        args, _table(samples, figures), line, details, lambda folder: plot_soak(samples, folder / "soak.png")
    )
    return 0


def _check(args: argparse.Namespace) -> None:
    possible = perm(args.pool, args.passages)
    if possible < args.combinations:
        raise RequestError(
            f"got {args.combinations} combinations, expected at most {possible}: {args.passages} chunks out "
            f"of {args.pool} make no more; use a larger --pool"
        )


def _measure(args: argparse.Namespace) -> "list[Sample]":
    from bench.combinations import novel_combinations
    from bench.pool import cut_pool
    from bench.soak.soaking import read_gauge, soak
    from blend.vllm.engine.engine import Engine

    with TemporaryDirectory() as folder, Engine(args.model, folder) as engine:
        texts = cut_pool(args.data, args.pool, args.chunk_tokens, lambda text: len(engine.encode(text)))
        chunk_ids = engine.precompute(texts)
        combinations = islice(
            novel_combinations(args.pool, args.passages, Random(args.seed)), args.combinations
        )
        _ask(engine, chunk_ids, tuple(range(args.passages)), args.max_tokens)  # warm-up
        found = []
        with open_progress() as progress:
            for sample in soak(
                combinations,
                lambda chunks: _ask(engine, chunk_ids, chunks, args.max_tokens),
                lambda: read_gauge(Path(folder)),
                time.monotonic,
            ):
                found.append(sample)
                now = f"{sample.ttft_ms:.0f} ms, {sample.gauge.memory_bytes / _GIB:.2f} GiB"
                progress(len(found), args.combinations, f"combinations, {now}")
        return found


def _ask(
    engine: "Engine", chunk_ids: Sequence[str], chunks: "Combination", max_tokens: int
) -> tuple[float, str | None]:
    answer = engine.generate(QUESTION, [chunk_ids[chunk] for chunk in chunks], max_tokens=max_tokens)
    return answer.ttft_ms, answer.stats.fallback


def _table(samples: "Sequence[Sample]", figures: "dict[str, Drift]") -> str:
    rows = [
        (name, f"{one.first:,.0f}", f"{one.last:,.0f}", f"{one.max:,.0f}", f"{one.ratio:.3f}")
        for name, one in figures.items()
    ]
    blended = sum(one.fallback is None for one in samples)
    return (
        f"{table(('', 'first', 'last', 'max', 'last over first'), rows)}\n\n"
        f"{len(samples)} novel combinations, {blended} blended. "
        "first, last: medians of the first and of the last 100 requests (at most half of them)."
    )


def _line(
    args: argparse.Namespace, samples: "Sequence[Sample]", figures: "dict[str, Drift]"
) -> dict[str, Any]:
    return {
        "bench": "soak",
        "model": args.model,
        "n": len(samples),
        "pool": args.pool,
        "passages": args.passages,
        "chunk_tokens": args.chunk_tokens,
        "seed": args.seed,
        "blended": sum(one.fallback is None for one in samples),
        "fallbacks": sorted({one.fallback for one in samples if one.fallback is not None}),
        **{name: {**asdict(one), "ratio": one.ratio} for name, one in figures.items()},
    }
