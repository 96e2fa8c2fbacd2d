"""`kvblend precompute`: arguments in, exit status out."""

import argparse
import logging
import sys
from pathlib import Path

from blend.errors import BlendError
from blend.settings.defaults import DEFAULT_MODEL
from blend.store.config import load_config
from precompute.config import DEFAULTS, PrecomputeConfig
from precompute.errors import PrecomputeError
from retriever.errors import CollectionError, RetrieverError
from retriever.layout import check_name

DONE, FAILED, SOME_UNREADABLE = 0, 1, 3
"""Exit statuses; 2 is argparse's for wrong usage."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand's arguments."""
    parser = subparsers.add_parser(
        "precompute",
        help="compute the chunk KV and the index of a folder of documents",
        description="Computes the chunk KV of a folder of documents and indexes their text. Run again, it "
        "computes only what is new or changed and drops what is gone.",
        epilog="Exit status: 0 done; 1 failed; 2 wrong usage; 3 done, but some files were unreadable.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="folder of text, Markdown, HTML, PDF, source"
    )
    parser.add_argument("--collection", metavar="NAME", type=_name, required=True, help="collection to build")
    parser.add_argument("--store", metavar="PATH", type=Path, help="where chunk KV and collections are kept")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="serving model (default: %(default)s)")
    parser.add_argument(
        "--chunk-tokens",
        metavar="N",
        type=_chunk_tokens,
        default=DEFAULTS.chunk_tokens,
        help="most tokens of a chunk (default: %(default)s)",
    )
    parser.add_argument("--prefix", metavar="FILE", type=Path, help="text before the first chunk")
    parser.add_argument(
        "--namespace", metavar="NAME", default="", help="who alone may read it; everybody, unless given"
    )
    parser.add_argument("--codec", metavar="NAME", help="what packs the chunk KV that is written")
    parser.add_argument(
        "--embedder",
        metavar="NAME",
        default=DEFAULTS.embedder,
        help="embedding model: a local folder, a hub id, or URL#MODEL of a service that speaks OpenAI's "
        "/v1/embeddings, with its key in KVBLEND_EMBEDDINGS_API_KEY (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="report as JSON lines on standard output")


def run(args: argparse.Namespace) -> int:
    """Run the job; what went wrong is one line on standard error."""
    try:
        return _run(args)
    except (PrecomputeError, BlendError, RetrieverError) as error:
        print(f"kvblend precompute: {error}", file=sys.stderr)
        return FAILED


def _run(args: argparse.Namespace) -> int:
    # Imported here, since they take seconds: --help and a wrong path must not.
    from precompute.chunked import check_folder
    from precompute.job import Precompute
    from precompute.progress import open_report

    tiers = load_config({"path": args.store, "codec": args.codec}).config
    config = PrecomputeConfig(
        folder=args.folder,
        store=tiers.path,
        collection=args.collection,
        chunk_tokens=args.chunk_tokens,
        prefix=DEFAULTS.prefix if args.prefix is None else _read_prefix(args.prefix),
    )
    check_folder(config.folder)
    # The parser complains of every oddity that it can cope with; what it cannot is reported by us.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)

    from blend.vllm.engine.engine import Engine
    from retriever.embed import open_embedder

    embedder = open_embedder(args.embedder)
    # A model without a verdict gets one from this engine, so that a server need not start one for it.
    with (
        Engine(args.model, config.store, namespace=args.namespace, codec=tiers.codec) as engine,
        open_report(args.json) as report,
    ):
        finished = Precompute(engine, embedder, config, report).run()
    return SOME_UNREADABLE if finished.unreadable else DONE


def _read_prefix(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PrecomputeError(f"cannot read the prefix file {path}: {error}") from error


def _name(value: str) -> str:
    try:
        check_name(value)
    except CollectionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def _chunk_tokens(value: str) -> int:
    if not value.isdecimal() or int(value) < DEFAULTS.min_chunk_tokens:
        raise argparse.ArgumentTypeError(
            f"got {value}, expected a number from {DEFAULTS.min_chunk_tokens} up"
        )
    return int(value)
