"""`kvblend bench soak`: many novel combinations in a row, and what becomes of time, memory and the store."""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from math import perm
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from api.cli.columns import aligned
from bench.arguments import add_chunks, add_ending, positive
from bench.report import finish, prepare_out
from blend.errors import RequestError

if TYPE_CHECKING:
    from bench.combinations import Combination
    from bench.soak.soaking import Drift, Sample
    from blend.vllm.engine.engine import Engine

QUESTION = "What do these pages say about memory?"
TELL_EVERY_S = 15.0
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
    from bench.plot import check_plots
    from bench.soak.plot import plot_soak

    _check(args)
    prepare_out(args.out)
    if args.out is not None:
        check_plots()
    samples = _measure(args)
    figures = _figures(samples)
    finish(
        args,
        _table(samples, figures),
        _line(args, samples, figures),
        {"samples": [asdict(one) for one in samples]},
        lambda folder: plot_soak(samples, folder / "soak.png"),
    )
    return 0


def _check(args: argparse.Namespace) -> None:
    there = perm(args.pool, args.passages)
    if there < args.combinations:
        raise RequestError(
            f"got {args.combinations} combinations to make, expected at most {there}: so many are there of "
            f"{args.passages} chunks out of {args.pool}; give a larger --pool"
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
        _ask(engine, chunk_ids, tuple(range(args.passages)), args.max_tokens)  # what is done once, is done
        samples = soak(
            combinations,
            lambda chunks: _ask(engine, chunk_ids, chunks, args.max_tokens),
            lambda: read_gauge(Path(folder)),
            time.monotonic,
        )
        return _told(samples, args.combinations)


def _ask(
    engine: "Engine", chunk_ids: Sequence[str], chunks: "Combination", max_tokens: int
) -> tuple[float, str | None]:
    answer = engine.generate(QUESTION, [chunk_ids[chunk] for chunk in chunks], max_tokens=max_tokens)
    return answer.ttft_ms, answer.stats.fallback


def _told(samples: "Iterable[Sample]", total: int) -> "list[Sample]":
    """All samples, with a line on standard error now and then."""
    found: list[Sample] = []
    last_s = -float("inf")
    for sample in samples:
        found.append(sample)
        if time.monotonic() - last_s >= TELL_EVERY_S or len(found) == total:
            last_s = time.monotonic()
            print(
                f"{len(found)}/{total}: {sample.ttft_ms:.0f} ms, {sample.gauge.memory_bytes / _GIB:.2f} GiB",
                file=sys.stderr,
                flush=True,
            )
    return found


def _figures(samples: "Sequence[Sample]") -> "dict[str, Drift]":
    from bench.soak.soaking import drift

    gauges = [one.gauge for one in samples]
    return {
        "ttft_ms": drift([one.ttft_ms for one in samples]),
        "memory_bytes": drift([one.memory_bytes for one in gauges]),
        "own_bytes": drift([one.own_bytes for one in gauges]),
        "engine_bytes": drift([one.engine_bytes for one in gauges]),
        "store_bytes": drift([one.store_bytes for one in gauges]),
        "store_files": drift([one.store_files for one in gauges]),
    }


def _table(samples: "Sequence[Sample]", figures: "dict[str, Drift]") -> str:
    head = ("", "first", "last", "most", "last over first")
    rows = [
        (name, f"{one.first:,.0f}", f"{one.last:,.0f}", f"{one.max:,.0f}", f"{one.ratio:.3f}")
        for name, one in figures.items()
    ]
    blended = sum(one.fallback is None for one in samples)
    return (
        f"{aligned([head, *rows], right=head[1:])}\n\n"
        f"{len(samples)} novel combinations, {blended} blended. "
        "first, last: medians of up to 100 requests at either end."
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
