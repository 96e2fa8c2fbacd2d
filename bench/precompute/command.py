"""`kvblend bench precompute`: the precompute job against the engine's own prefill of the same chunks."""

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.arguments import add_chunks, add_ending, positive
from bench.progress import open_progress
from bench.report import finish, prepare_out

if TYPE_CHECKING:
    from bench.precompute.precomputing import Job, Material, Prefill


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "precompute",
        help="the precompute job against the engine's own batched prefill of the same chunks",
        description="Both run in one engine, alternating; the job fills an empty store each time.",
        allow_abbrev=False,
    )
    add_chunks(parser, pool=32)
    add = parser.add_argument
    add("--repetitions", type=positive, default=3, metavar="N", help="of each arm (default: %(default)s)")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    from bench.precompute.rates import make_rates, render_rates

    prepare_out(args.out)
    material, jobs, prefills = _measure(args)
    rates = make_rates(material, jobs, prefills)
    line = {
        "bench": "precompute",
        "model": args.model,
        "chunks": len(material.texts),
        "chunk_tokens": material.chunk_tokens,
        "repetitions": len(jobs),
        "threads": os.environ.get("VLLM_CPU_OMP_THREADS_BIND"),
        "document_tokens": material.document_tokens,
        "computed_tokens": material.kv_tokens,
        **rates,
    }
    details = {"jobs": [asdict(one) for one in jobs], "prefills": [asdict(one) for one in prefills]}
    finish(args, render_rates(rates, material, len(jobs)), line, details)
    return 0


def _measure(args: argparse.Namespace) -> "tuple[Material, list[Job], list[Prefill]]":
    from bench.pool import cut_pool
    from bench.precompute.precomputing import make_material, run_job, run_prefill
    from blend.vllm.engine.engine import Engine
    from precompute.config import DEFAULTS
    from retriever.embed import open_embedder

    embedder = open_embedder(DEFAULTS.embedder)
    jobs: list[Job] = []
    prefills: list[Prefill] = []
    with (
        open_progress() as progress,
        TemporaryDirectory() as folder,
        Engine(args.model, folder, self_check=False) as engine,
    ):
        texts = cut_pool(args.data, args.pool, args.chunk_tokens, lambda text: len(engine.encode(text)))
        material = make_material(engine, texts, args.chunk_tokens)
        for number in range(args.repetitions):
            progress(number, args.repetitions, "repetitions")
            if number % 2:  # each arm comes first as often as last
                prefills.append(run_prefill(engine, material))
            jobs.append(run_job(engine, embedder, material, Path(folder)))
            if number % 2 == 0:
                prefills.append(run_prefill(engine, material))
        progress(args.repetitions, args.repetitions, "repetitions")
    return material, jobs, prefills
