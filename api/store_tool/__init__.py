"""`kvblend store`: list, verify, move, pin and remove stored chunk KV."""

import argparse
from importlib import import_module
from typing import Any

from api.store_tool import checking, evicting, listing, moving, pinning, recompressing, removing

_VERBS = (listing, checking, evicting, pinning, removing, moving, recompressing)


def add_parser(subparsers: Any) -> None:
    """The command's own subcommands."""
    parser = subparsers.add_parser("store", help="list, verify, move and remove stored chunk KV")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    for module in _VERBS:
        for verb in module.add_parsers(verbs):
            verb.set_defaults(module=module.__name__)


def run(args: argparse.Namespace) -> int:
    """Run one of them; returns its exit status."""
    status: int = import_module(args.module).run(args)
    return status
