"""`kvblend bench store`: tiers against plain reads, and codecs by size, speed and cost to a blend."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.arguments import add_ending, add_questions, names, positive
from bench.processes import redis_program, redis_server
from bench.progress import open_progress
from bench.report import finish, prepare_out
from blend.errors import RequestError

TIERS = ("memory", "disk", "redis", "s3")
ALL = "all that are available"

if TYPE_CHECKING:
    from bench.fidelity.codec_run import CodecCost
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
        description="Measures tiers and codecs on chunks of the demo's documents; with --data, measures "
        "every codec on blends of a file of questions too. With --out, a run that was stopped goes on.",
        allow_abbrev=False,
    )
    add_questions(parser, num=20, required=False)
    add, count = parser.add_argument, positive
    add("--tiers", type=names, metavar="NAME,...", help=f"of {', '.join(TIERS)}; or none (default: {ALL})")
    add("--redis", default=None, metavar="URL", help="of a running server; one is started unless given")
    add("--s3", default=None, metavar="URL", help="s3://BUCKET/PREFIX; endpoint and keys in AWS_* variables")
    add("--codecs", type=names, default=None, metavar="NAME,...", help="(default: all)")
    add("--pool", type=count, default=4, metavar="N", help="chunks of the tiers (default: %(default)s)")
    add("--chunk-tokens", type=count, default=512, metavar="N", help="of each (default: %(default)s)")
    add("--repetitions", type=count, default=5, metavar="N", help="of each read (default: %(default)s)")
    add("--folder", type=Path, default=None, help="for the files (default: the system's temporary folder)")
    add("--threads", type=count, default=None, metavar="N", help="of torch")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    from bench.store.plot import plot_frontier
    from bench.store.table import as_object, render
    from blend.store.codecs import NAMES, codec

    prepare_out(args.out)
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
            servers["redis"] = stack.enter_context(redis_server(args.redis))
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
    from bench.fidelity.codec_run import CodecScore, cost_of, run
    from bench.fidelity.journal import Header, open_journal
    from bench.fidelity.questions import read_questions
    from bench.fidelity.run import LabSettings, prompt_builder
    from blend.store.codecs import tag_of
    from blend.store.file_format.recoding import recoded

    data = read_questions(
        args.data, num=args.questions, skip=args.skip, passages=args.passages, seed=args.seed
    )
    settings = LabSettings(max_tokens=args.max_tokens)
    build = prompt_builder(backend.tokenizer, settings)
    header = Header(
        model=backend.model_name,
        fingerprint=backend.fingerprint,
        backend=f"{backend.name}, codecs",
        data=data.name,
        data_digest=data.digest,
        passages=args.passages,
        join=1,
        **asdict(settings),
        seed=args.seed,
        threads=None,  # no times among the scores
    )
    lossy = {tag_of(each): each for each in codecs if not each.is_lossless}  # the others add nothing
    recodes = {tag: partial(recoded, codec=each) for tag, each in lossy.items()}
    prompts = [build(question) for question in data.questions]
    with open_journal(args.out, header, CodecScore.from_json) as journal, open_progress() as progress:
        scores = run(backend, prompts, recodes, journal, args.max_tokens, progress)
    return {each.name: cost_of(scores[tag]) for tag, each in lossy.items()}
