"""The `kvblend` command. Each subcommand imports what it needs when it runs, so that `--help` is quick."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import precompute.cli
from api import store_tool as store
from api.cli import ask, calibrate, config, doctor, serve
from api.version import kvblend_version
from blend.errors import BlendError, ConfigError
from precompute.errors import PrecomputeError
from retriever.errors import RetrieverError

_RUN = {
    "precompute": "precompute.cli",
    "ask": "api.cli.ask",
    "doctor": "api.cli.doctor",
    "calibrate": "api.cli.calibrate",
    "store": "api.store_tool",
    "config": "api.cli.config",
}
_BENCH_NEEDS = ("bench", "matplotlib", "scipy")
"""What `kvblend bench` imports and no other command does: its own code, and packages of the extra `bench`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    An error of the caller or the data is one line on standard error and status 1.
    """
    parser = command_parser()
    try:
        args, flags = parser.parse_known_args(argv)
        if args.command == "serve":
            return serve.run(args, flags)
        if args.command == "bench":
            return run_bench(flags)
        if flags:
            parser.error(f"unrecognized arguments: {' '.join(flags)}")
        status: int = import_module(_RUN[args.command]).run(args)
    except (BlendError, PrecomputeError, RetrieverError) as error:
        print(f"kvblend: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def run_bench(argv: Sequence[str]) -> int:
    """Run `kvblend bench`; returns its exit status.

    Raises:
        ConfigError: packages of the extra `bench` are missing.
    """
    missing = [package for package in _BENCH_NEEDS if find_spec(package) is None]
    if missing:
        raise ConfigError(f"`kvblend bench` needs {', '.join(missing)}: pip install 'kvblend[bench]'")
    status: int = import_module("bench.cli").main(argv)
    return status


def command_parser() -> argparse.ArgumentParser:
    """Arguments of all commands."""
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
    # Its own parser reads the rest, --help included: no other command imports what measures.
    subparsers.add_parser("bench", help="measure how good and how fast blends are", add_help=False)
    store.add_parser(subparsers)
    config.add_parser(subparsers)
    return parser
