"""`kvblend bench`: measurements, each a subcommand that ends in one JSON line."""

import argparse
from collections.abc import Sequence

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


def main(argv: Sequence[str]) -> int:
    """Run one benchmark; returns its exit status."""
    args = command_parser().parse_args(argv)
    status: int = _BENCHES[args.bench].run(args)
    return status


def command_parser() -> argparse.ArgumentParser:
    """Arguments of all benchmarks."""
    parser = argparse.ArgumentParser(
        prog="kvblend bench", description="Measure how good and how fast blends are.", allow_abbrev=False
    )
    benches = parser.add_subparsers(dest="bench", required=True, metavar="bench")
    for bench in _BENCHES.values():
        bench.add_parser(benches)
    return parser
