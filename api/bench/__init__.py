"""`kvblend bench`: measurements, each a subcommand that ends in one JSON line."""

import argparse
from importlib import import_module
from typing import Any

from api.bench import fidelity, ingest, load, precompute, retrieval, soak, store, ttft

_NAMES = ("fidelity", "retrieval", "ttft", "load", "soak", "ingest", "precompute", "store")
_RUN = {name: f"api.bench.{name}" for name in _NAMES}


def add_parser(subparsers: Any) -> None:
    """The command's own subcommands."""
    parser = subparsers.add_parser("bench", help="measure how good and how fast blends are")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="bench")
    for bench in (fidelity, retrieval, ttft, load, soak, ingest, precompute, store):
        bench.add_parser(benches)


def run(args: argparse.Namespace) -> int:
    """Run one of them; returns its exit status."""
    status: int = import_module(_RUN[args.bench]).run(args)
    return status
