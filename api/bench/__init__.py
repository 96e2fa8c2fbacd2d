"""`kvblend bench`: measurements, each a subcommand that ends in one JSON line."""

import argparse
from importlib import import_module
from typing import Any

from api.bench import fidelity, ttft

_RUN = {"fidelity": "api.bench.fidelity", "ttft": "api.bench.ttft"}


def add_parser(subparsers: Any) -> None:
    """The command's own subcommands."""
    parser = subparsers.add_parser("bench", help="measure how good and how fast blends are")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="bench")
    fidelity.add_parser(benches)
    ttft.add_parser(benches)


def run(args: argparse.Namespace) -> int:
    """Run one of them; returns its exit status."""
    status: int = import_module(_RUN[args.bench]).run(args)
    return status
