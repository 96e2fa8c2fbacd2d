"""`kvblend bench retrieval`: how often the passage that answers is found, and how soon, by each method."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.arguments import add_ending, positive
from bench.progress import open_progress
from bench.report import finish, prepare_out
from retriever.config import DEFAULTS


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "retrieval",
        help="how often the passage that answers is found, and how soon",
        description="Every row of the data is a question with the passage that answers it. These passages, "
        "and others up to --passages, become one collection; each method searches it for each question.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="rows of question, title and text, as JSON")
    add("--corpus", type=Path, default=None, metavar="FILE", help="rows of title and text: other passages")
    add(
        "--passages", type=positive, default=3000, metavar="N", help="of both together (default: %(default)s)"
    )
    add("--questions", type=positive, default=400, metavar="N", help="most questions (default: %(default)s)")
    add(
        "--embedder",
        default=DEFAULTS.embedder,
        metavar="NAME",
        help="as of precompute (default: %(default)s)",
    )
    add(
        "--reranker",
        action="append",
        default=[],
        metavar="MODEL",
        help="as of serve: an arm of its own; may be repeated",
    )
    add("--keep", type=Path, default=None, metavar="DIR", help="keeps the passages' vectors for later runs")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    # Imported here, since they bring torch: --help must not.
    from bench.retrieval.retrieving import as_object, find_all, make_collection, read_material, render
    from retriever.embed import open_embedder
    from retriever.rerank import open_reranker

    prepare_out(args.out)
    material = read_material(args.data, args.corpus, args.passages, args.questions, args.seed)
    embedder = open_embedder(args.embedder)
    rerankers = [open_reranker(name) for name in args.reranker]
    with TemporaryDirectory() as folder:
        with open_progress() as progress:
            made = make_collection(Path(folder), material, embedder, progress, args.keep)
        arms = find_all(made, material, rerankers)
    line = {
        "bench": "retrieval",
        "data": args.data.name,
        "passages": len(material.passages),
        "questions": len(material.questions),
        "embedder": args.embedder,
        "embed_passages_per_s": None if made.passages_per_s is None else round(made.passages_per_s, 1),
        "embed_question_ms": round(made.question_ms, 2),
        "arms": [as_object(arm) for arm in arms],
    }
    finish(args, render(arms), line, {"ranks": {arm.name: arm.ranks for arm in arms}})
    return 0
