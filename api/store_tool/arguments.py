"""Arguments that the verbs of `kvblend store` share, and the settings that follow from them."""

import argparse
from typing import Any

from blend.settings.group import add_flags
from blend.settings.load import load
from blend.settings.sizes import parse_bytes
from blend.settings.sources import add_config_flag, use_config_flag
from blend.store.config import StoreConfig


def add_verb(verbs: Any, name: str, description: str) -> argparse.ArgumentParser:
    """A verb with `--store`, `--config`, `--tier` and `--json`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=description, description=description, allow_abbrev=False
    )
    add_flags(parser, StoreConfig, "path")
    add_config_flag(parser)
    parser.add_argument(
        "--tier",
        choices=("disk", "remote"),
        default="disk",
        help="the store's folder, or the remote of the settings",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def add_ids(parser: argparse.ArgumentParser, nargs: str) -> None:
    """Ids of chunks."""
    parser.add_argument("ids", metavar="ID", nargs=nargs, help="id of a chunk, or as much of it as is unique")


def add_collection(parser: argparse.ArgumentParser) -> None:
    """A choice of chunks by who needs them."""
    parser.add_argument("--collection", metavar="NAME", help="only what this collection needs")


def size(text: str) -> int:
    """An argument that is a number of bytes."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def config_of(args: argparse.Namespace) -> StoreConfig:
    """The store's settings, with the folder that the command names.

    Raises:
        ConfigError: a setting makes no sense.
    """
    use_config_flag(args)
    return load(StoreConfig, {"path": args.store}).settings
