"""The `kvblend` command. Each subcommand imports what it needs when it runs, so that `--help` is quick."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import precompute.cli
from api import store_tool as store
from api.cli import ask, calibrate, config, doctor, serve
from api.version import kvblend_version
from blend.errors import BlendError
from precompute.errors import PrecomputeError
from retriever.errors import RetrieverError

_RUN = {
    "precompute": "precompute.cli",
    "ask": "api.cli.ask",
    "doctor": "api.cli.doctor",
    "calibrate": "api.cli.calibrate",
    "bench": "bench.cli",
    "store": "api.store_tool",
    "config": "api.cli.config",
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
            return serve.run(args, flags)
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
    serve.add_parser(subparsers)
    ask.add_parser(subparsers)
    doctor.add_parser(subparsers)
    calibrate.add_parser(subparsers)
    import_module("bench.cli").add_parser(subparsers)
    store.add_parser(subparsers)
    config.add_parser(subparsers)
    return parser
