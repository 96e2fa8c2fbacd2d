"""`kvblend precompute`: arguments in, exit status out."""

import argparse
import logging
import sys
from pathlib import Path

from blend.errors import BlendError
from blend.settings.group import add_flags, flags_given
from blend.settings.load import load
from blend.settings.sources import add_config_flag, use_config_flag
from blend.store.config import StoreConfig
from precompute.config import PrecomputeConfig, PrecomputeSettings
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
        "computes only new and changed chunks and drops removed ones.",
        epilog="Exit status: 0 done; 1 failed; 2 wrong usage; 3 done, but some files were unreadable.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="folder of text, Markdown, HTML, PDF, source"
    )
    parser.add_argument("--collection", metavar="NAME", type=_name, required=True, help="collection to build")
    add_config_flag(parser)
    add_flags(parser, StoreConfig, "path", "codec")
    add_flags(parser, PrecomputeSettings)
    parser.add_argument(
        "--namespace", metavar="NAME", default="", help="tenant that may read the collection (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="report as JSON lines on standard output")


def run(args: argparse.Namespace) -> int:
    """Run the job; an error is one line on standard error."""
    try:
        return _run(args)
    except (PrecomputeError, BlendError, RetrieverError) as error:
        print(f"kvblend precompute: {error}", file=sys.stderr)
        return FAILED


def _run(args: argparse.Namespace) -> int:
    # Imported here, since the imports take seconds, which --help and a wrong path must not.
    from precompute.chunked import check_folder
    from precompute.job import Precompute
    from precompute.progress import open_report

    use_config_flag(args)
    store = load(StoreConfig, flags_given(args, StoreConfig)).settings
    flags = flags_given(args, PrecomputeSettings)
    if args.prefix is not None:
        flags["prefix"] = _read_prefix(Path(args.prefix))
    settings = load(PrecomputeSettings, flags).settings
    config = PrecomputeConfig(
        args.folder, store.path, args.collection, settings.chunk_tokens, settings.prefix
    )
    check_folder(config.folder)
    # pypdf warns of every oddity that it copes with; files that it cannot read are reported here.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)

    from blend.vllm.engine.engine import Engine
    from retriever.embed import open_embedder

    embedder = open_embedder(settings.embedder)
    # This engine also runs the self-check of a model without a verdict, so that a server need not.
    with (
        Engine(settings.model, store, namespace=args.namespace) as engine,
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
