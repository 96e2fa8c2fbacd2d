"""`kvblend bench load`: a server under an open loop of requests, blending on and off."""

import argparse
import asyncio
import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.arguments import add_chunks, add_ending, exponent, positive, rates, seconds, share
from bench.report import finish, prepare_out
from blend.errors import RequestError
from blend.store.config import store_path

if TYPE_CHECKING:
    from bench.load.arms import Schedule
    from bench.load.workload import Corpus

RATES = (0.1, 0.2, 0.4)


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "load",
        help="a server under an open loop of requests, blending on and off",
        description="Starts `kvblend serve` on chunks that it precomputes, and sends requests at rising "
        "rates (Poisson arrivals), once with blending on and once off.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--base-url", metavar="URL", help="of a running `kvblend serve` of --collection")
    add("--collection", metavar="NAME", help="use its chunks instead of precomputing some")
    add("--store", type=Path, help="of the collection, or to keep the precomputed chunks in")
    add_chunks(parser, pool=24)
    add("--passages", type=positive, default=6, metavar="K", help="chunks of a prompt (default: %(default)s)")
    add(
        "--rates", type=rates, default=RATES, metavar="R,...", help="requests a second (default: 0.1,0.2,0.4)"
    )
    add("--seconds", type=seconds, default=60.0, metavar="S", help="of arrivals (default: %(default)g)")
    add("--share", type=share, default=0.5, help="of requests that have chunks (default: %(default)s)")
    add(
        "--zipf", type=exponent, default=1.0, help="exponent of the chunks' popularity (default: %(default)s)"
    )
    add("--max-tokens", type=positive, default=32, help="of each answer (default: %(default)s)")
    add("--timeout", type=seconds, default=300.0, metavar="S", help="of an answer (default: %(default)g)")
    add("--one-blend", action="store_true", help="instead: a request that decodes, beside one that blends")
    add("--repetitions", type=positive, default=5, metavar="N", help="of --one-blend (default: %(default)s)")
    add("--decode-tokens", type=positive, default=512, metavar="N", help="of the answer of --one-blend")
    add("--write-prompts", type=Path, metavar="FILE", help="instead: write prompts for `vllm bench serve`")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    from bench.collection import NAME
    from bench.processes import kvblend_server

    if args.collection is None and (args.base_url is not None or args.write_prompts is not None):
        raise RequestError(
            "got --base-url or --write-prompts, expected --collection (and --store) with it: "
            "only a server's own chunks are found in prompts"
        )
    prepare_out(args.out)
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory()))
        store = args.store or (place if args.collection is None else store_path())
        if args.collection is None:
            _precompute(args, store)
        name = args.collection or NAME
        corpus = _corpus(store, name, args.passages)
        if args.write_prompts is not None:
            return _write_prompts(args, corpus)
        log = (args.out or place) / "serve.log"
        url = args.base_url or stack.enter_context(
            kvblend_server(log, "--collection", name, "--store", str(store))
        )
        _measure(args, url, corpus)
    return 0


def _precompute(args: argparse.Namespace, store: Path) -> None:
    from bench.collection import make_collection
    from bench.pool import cut_pool
    from blend.vllm.engine.engine import Engine
    from precompute.config import DEFAULTS
    from retriever.embed import open_embedder

    embedder = open_embedder(DEFAULTS.embedder)
    # With the self-check, so that the server finds its verdict and starts no engine of its own for it.
    with Engine(args.model, store) as engine:
        texts = cut_pool(args.data, args.pool, args.chunk_tokens, lambda text: len(engine.encode(text)))
        make_collection(engine, embedder, texts, store, args.chunk_tokens)


def _corpus(store: Path, name: str, passages: int) -> "Corpus":
    from transformers import AutoTokenizer

    from api.server.chat.retrieval import has_system_role
    from bench.load.workload import Corpus
    from blend.models.resolve import resolve
    from retriever.collection import Collection

    collection = Collection.open(store, name)
    if len(collection.chunks) < passages:
        raise RequestError(
            f"got {len(collection.chunks)} chunks for prompts of {passages}: give fewer --passages, "
            "or more chunks"
        )
    settings = collection.settings
    tokenizer = AutoTokenizer.from_pretrained(resolve(settings.model).path)
    texts = tuple(chunk.text for chunk in collection.chunks)
    return Corpus(settings.prefix, texts, has_system_role(tokenizer))


def _schedule(args: argparse.Namespace) -> "Schedule":
    from bench.load.arms import Schedule
    from bench.load.workload import Mix

    mix = Mix(args.passages, args.share, args.zipf)
    return Schedule(mix, args.rates, args.seconds, args.max_tokens, args.seed)


def _measure(args: argparse.Namespace, url: str, corpus: "Corpus") -> None:
    if args.one_blend:
        _measure_one_blend(args, url, corpus)
        return
    from bench.load.arms import run_load
    from bench.load.table import render_load

    found = asyncio.run(run_load(url, corpus, _schedule(args), args.timeout))
    line = {
        **_header("load", args, corpus),
        **{name: getattr(args, name) for name in ("seconds", "share", "zipf", "max_tokens")},
        "runs": [asdict(one) for one in found],
    }
    finish(args, render_load(found), line)


def _measure_one_blend(args: argparse.Namespace, url: str, corpus: "Corpus") -> None:
    from bench.load.arms import run_one_blend
    from bench.load.figures import decoding_figures
    from bench.load.table import render_decoding

    size = args.passages, args.repetitions, args.decode_tokens
    found = asyncio.run(run_one_blend(url, corpus, *size, args.seed, args.timeout))
    kinds = decoding_figures(found)
    line = {
        **_header("load --one-blend", args, corpus),
        "repetitions": args.repetitions,
        "decode_tokens": args.decode_tokens,
        "kinds": [asdict(one) for one in kinds],
    }
    details = {"observations": {kind: [asdict(one) for one in own] for kind, own in found.items()}}
    finish(args, render_decoding(kinds), line, details)


def _header(bench: str, args: argparse.Namespace, corpus: "Corpus") -> dict[str, Any]:
    made = args.collection is None
    return {
        "bench": bench,
        "model": args.model if made else None,
        "collection": args.collection,
        "chunks": len(corpus.texts),
        "chunk_tokens": args.chunk_tokens if made else None,
        "passages": args.passages,
        "seed": args.seed,
    }


def _write_prompts(args: argparse.Namespace, corpus: "Corpus") -> int:
    """The requests of all rates that have chunks, one JSON object a line."""
    from bench.load.workload import prompt_row, workload

    schedule = _schedule(args)
    arrivals = [
        arrival
        for number, rate in enumerate(args.rates)
        for arrival in workload(len(corpus.texts), schedule.mix, rate, args.seconds, (args.seed, number))
        if arrival.chunks
    ]
    rows = [json.dumps(prompt_row(corpus, arrival, args.max_tokens)) for arrival in arrivals]
    try:
        args.write_prompts.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write {args.write_prompts}: {error.strerror}") from error
    print(f"{len(rows)} prompts in {args.write_prompts}")
    return 0
