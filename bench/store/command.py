"""`kvblend bench store`: tiers beside plain reads, and codecs by size, speed and what they cost a blend."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.arguments import add_ending, names, not_negative, positive
from bench.redis_process import redis_at, redis_program
from bench.report import finish, prepare_out
from blend.errors import RequestError
from blend.settings.defaults import DEFAULT_MODEL

TIERS = ("memory", "disk", "redis", "s3")
WITHOUT = "unless given all that can be had"

if TYPE_CHECKING:
    from bench.fidelity.codec_run import CodecCost, CodecJournal
    from bench.fidelity.hf_backend import HFBackend
    from bench.store.codecs import CodecFigures
    from bench.store.tiers import TierFigures
    from blend.chunks.chunk import ChunkKV
    from blend.store.codecs.base import Codec


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "store",
        help="how fast each tier reads and writes, and what each codec saves and costs",
        description="Tiers and codecs are measured on chunks of the demo's documents; with --data, every "
        "codec also on blends of a file of questions. With --out, that part goes on where it was stopped.",
        allow_abbrev=False,
    )
    add, count = parser.add_argument, positive
    add("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    add("--data", type=Path, default=None, metavar="FILE", help="questions as JSON lines, gzipped or not")
    add("--questions", type=count, default=20, metavar="N", help="most questions (default: %(default)s)")
    add("--skip", type=not_negative, default=0, metavar="N", help="rows left out at the start of the file")
    add("--passages", type=count, default=8, metavar="K", help="chunks of a prompt (default: %(default)s)")
    add("--max-tokens", type=count, default=16, help="of an answer (default: %(default)s)")
    add(
        "--tiers",
        type=names,
        default=None,
        metavar="NAME,...",
        help=f"{', '.join(TIERS)}, or none; {WITHOUT}",
    )
    add("--redis", default=None, metavar="URL", help="of a server; one is started unless given")
    add("--s3", default=None, metavar="URL", help="s3://BUCKET/PREFIX; endpoint and keys in AWS_* variables")
    add("--codecs", type=names, default=None, metavar="NAME,...", help="all that there are unless given")
    add("--pool", type=count, default=4, metavar="N", help="chunks of the tiers (default: %(default)s)")
    add("--chunk-tokens", type=count, default=512, metavar="N", help="of each (default: %(default)s)")
    add("--repetitions", type=count, default=5, metavar="N", help="of each read (default: %(default)s)")
    add("--folder", type=Path, default=None, help="where files are written; the system's own unless given")
    add("--threads", type=count, default=None, metavar="N", help="of torch")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    from bench.plot import check_plots
    from bench.store.plot import plot_frontier
    from bench.store.table import as_object, render
    from blend.store.codecs import NAMES, codec

    prepare_out(args.out)
    if args.out is not None:
        check_plots()
    codecs = [codec(name) for name in args.codecs or NAMES]
    args.tiers = tiers_of(args)
    tiers, figures = _measure(args, codecs)
    finish(
        args,
        render(tiers, figures),
        as_object(tiers, figures),
        {"model": args.model, "chunk_tokens": args.chunk_tokens, "figures": [asdict(one) for one in figures]},
        lambda folder: plot_frontier(figures, folder / "frontier.png"),
    )
    return 0


def tiers_of(args: argparse.Namespace) -> list[str]:
    """Names of the tiers that are to be measured.

    Raises:
        RequestError: one is none, or cannot be had.
    """
    if args.tiers is not None and list(args.tiers) == ["none"]:
        return []
    if args.tiers is not None:
        if unknown := set(args.tiers) - set(TIERS):
            raise RequestError(
                f"got tiers {', '.join(sorted(unknown))}, expected some of {', '.join(TIERS)}, or none"
            )
        if "s3" in args.tiers and args.s3 is None:
            raise RequestError("got tier s3 without its URL: name a bucket with --s3 s3://BUCKET/PREFIX")
        return list(args.tiers)
    can_redis = args.redis is not None or redis_program() is not None
    return ["memory", "disk", *(["redis"] if can_redis else []), *(["s3"] if args.s3 else [])]


@contextmanager
def _servers(args: argparse.Namespace) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        servers = {}
        if "redis" in args.tiers:
            servers["redis"] = stack.enter_context(redis_at(args.redis))
        if "s3" in args.tiers:
            servers["s3"] = args.s3
        yield servers


def _measure(
    args: argparse.Namespace, codecs: "list[Codec]"
) -> "tuple[list[TierFigures], list[CodecFigures]]":
    from bench.fidelity.hf_backend import HFBackend
    from bench.store.codecs import measure_codecs
    from bench.store.tiers import measure_tiers, open_tiers

    with closing(HFBackend(args.model, args.threads)) as backend:
        costs = {} if args.data is None else _costs(args, backend, codecs)
        chunks = _chunks(args, backend)
    with TemporaryDirectory(dir=args.folder) as folder, _servers(args) as servers, ExitStack() as stack:
        places = []
        for each in codecs:
            for tier in open_tiers(Path(folder), each, chunks, args.tiers, servers):
                stack.callback(tier.close)
                places.append(tier)
        tiers = measure_tiers(places, chunks, args.repetitions)
    return tiers, measure_codecs(chunks, codecs, args.repetitions, costs)


def _chunks(args: argparse.Namespace, backend: "HFBackend") -> "list[ChunkKV]":
    from bench.pool import cut_pool
    from blend.text.pieces import PieceTokenizer

    encode = PieceTokenizer(backend.tokenizer).encode
    texts = cut_pool(None, args.pool, args.chunk_tokens, lambda text: len(encode(text)))
    return backend.compute(texts)


def _costs(args: argparse.Namespace, backend: "HFBackend", codecs: "list[Codec]") -> "dict[str, CodecCost]":
    """What each codec adds to the default blend's KL, by its name."""
    from bench.fidelity.codec_run import CodecJournal, cost_of, run
    from bench.fidelity.questions import read_questions
    from bench.fidelity.run import LabSettings, prompt_builder
    from blend.store.codecs import tag_of
    from blend.store.file_format.recoding import recoded

    data = read_questions(
        args.data, num=args.questions, skip=args.skip, passages=args.passages, seed=args.seed
    )
    settings = LabSettings(max_tokens=args.max_tokens)
    build = prompt_builder(backend.tokenizer, settings)
    header = {
        "fingerprint": backend.fingerprint,
        "data": data.digest,
        "passages": args.passages,
        "max_tokens": args.max_tokens,
        "seed": args.seed,
    }
    journal = CodecJournal(None if args.out is None else args.out / "journal.jsonl", header)
    lossy = [each for each in codecs if not each.is_lossless]  # the others add nothing
    recodes = {tag_of(each): partial(recoded, codec=each) for each in lossy}
    prompts = [build(question) for question in data.questions]
    tell = partial(_tell, journal, {each.name: tag_of(each) for each in lossy}, len(prompts))
    scores = run(backend, prompts, recodes, journal, args.max_tokens, tell)
    return {each.name: cost_of([one for one in scores if one.codec == tag_of(each)]) for each in lossy}


def _tell(journal: "CodecJournal", tags: dict[str, str], total: int, done: int) -> None:
    """How far it has come, and what has been found so far."""
    from bench.fidelity.codec_run import cost_of

    found = {name: [one for one in journal.scores.values() if one.codec == tag] for name, tag in tags.items()}
    costs = {name: cost_of(scores) for name, scores in found.items() if scores}
    so_far = [f"{name} {one.kl_added:+.5f} of {one.kl_blend:.4f}" for name, one in costs.items()]
    print(f"question {done}/{total}" + "; ".join(["", *so_far]), file=sys.stderr, flush=True)
