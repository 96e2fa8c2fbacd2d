"""`kvblend bench`: measurements, each a subcommand that ends in one JSON line."""

import argparse
from typing import Any

from bench.fidelity import command as fidelity
from bench.load import command as load
from bench.load import ingest
from bench.precompute import command as precompute
from bench.retrieval import command as retrieval
from bench.soak import command as soak
from bench.store import command as store
from bench.ttft import command as ttft

_BENCHES = {
    "fidelity": fidelity,
    "retrieval": retrieval,
    "ttft": ttft,
    "load": load,
    "soak": soak,
    "ingest": ingest,
    "precompute": precompute,
    "store": store,
}


def add_parser(subparsers: Any) -> None:
    """The command's own subcommands."""
    parser = subparsers.add_parser("bench", help="measure how good and how fast blends are")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="bench")
    for bench in _BENCHES.values():
        bench.add_parser(benches)


def run(args: argparse.Namespace) -> int:
    """Run one of them; returns its exit status."""
    return _BENCHES[args.bench].run(args)
