"""The `kvblend` command. Each subcommand imports what it needs when it runs, so that `--help` is quick."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import precompute.cli
from api import ask, bench, calibrate, doctor, store
from api.ingest.settings import DEFAULTS as INGEST_DEFAULTS
from api.version import kvblend_version
from blend.errors import BlendError
from blend.ratio import parse_ratio
from blend.sharing import Sharing
from precompute.errors import PrecomputeError
from retriever.errors import RetrieverError

_RUN = {
    "precompute": "precompute.cli",
    "ask": "api.ask",
    "doctor": "api.doctor",
    "calibrate": "api.calibrate",
    "bench": "api.bench",
    "store": "api.store",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    What the caller or the data did wrong is one line on standard error and status 1.
    """
    parser = _parser()
    try:
        args, flags = parser.parse_known_args(argv)
        if flags and args.command != "serve":
            parser.error(f"unrecognized arguments: {' '.join(flags)}")
        if args.command == "serve":
            return _serve(args, flags)
        status: int = import_module(_RUN[args.command]).run(args)
    except (BlendError, PrecomputeError, RetrieverError) as error:
        print(f"kvblend: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kvblend",
        description="Answers from your documents without reading them twice.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kvblend {kvblend_version()}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    precompute.cli.add_parser(subparsers)
    _add_serve(subparsers)
    ask.add_parser(subparsers)
    doctor.add_parser(subparsers)
    calibrate.add_parser(subparsers)
    bench.add_parser(subparsers)
    store.add_parser(subparsers)
    return parser


def _add_serve(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "serve",
        help="serve collections over HTTP, with vLLM's own OpenAI server",
        epilog="Any flag of `vllm serve` may follow, such as --host, --port, --max-model-len or --api-key.",
        allow_abbrev=False,
    )
    parser.add_argument("--collection", action="append", default=[], metavar="NAME", help="may be repeated")
    parser.add_argument("--store", type=Path, default=None, help="the store's folder")
    parser.add_argument("--model", default=None, help="the collections' model unless given")
    parser.add_argument(
        "--reranker",
        metavar="MODEL",
        default=None,
        help="reads the best candidates again: a cross-encoder, or late: and an embedding model",
    )
    parser.add_argument(
        "--recompute-ratio",
        type=parse_ratio,
        default=None,
        help="in [0, 1], or auto, of requests that name none; the model's calibrated one unless given",
    )
    parser.add_argument(
        "--share-blends",
        choices=tuple(Sharing),
        default=Sharing.NO.value,
        help="for other questions on the same context: as-is answers them from the same blend, for the cost "
        "of a prefix hit and less closely; topped-up recomputes what else they need (default: %(default)s)",
    )
    parser.add_argument(
        "--ingest-share",
        type=_share,
        metavar="SHARE",
        default=INGEST_DEFAULTS.share,
        help="of the engine's time, that taking documents in may take while requests are served "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--always-blend",
        action="store_true",
        help="blend also where full prefill is predicted to be sooner",
    )


def _serve(args: argparse.Namespace, flags: Sequence[str]) -> int:
    from blend.vllm.setup import prepare_environment

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")  # a server's log is its operator's window
    prepare_environment()  # before vllm is imported
    from api.server import ServeOptions, serve

    return serve(
        ServeOptions(
            tuple(args.collection),
            args.store,
            args.model,
            args.recompute_ratio,
            args.share_blends,
            args.always_blend,
            args.reranker,
            args.ingest_share,
            tuple(flags),
        )
    )


def _share(value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise argparse.ArgumentTypeError(f"got {value}, expected a number over 0, at most 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
