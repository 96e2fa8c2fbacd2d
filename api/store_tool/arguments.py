"""Arguments that the verbs of `kvblend store` share, and the configuration that follows from them."""

import argparse
from pathlib import Path
from typing import Any

from blend.settings.sizes import parse_bytes
from blend.store.config import KEYS, ConfigInForce, StoreConfig, load_config


def add_verb(verbs: Any, name: str, description: str) -> argparse.ArgumentParser:
    """A verb with `--store`, `--config`, `--tier` and `--json`."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=description, description=description, allow_abbrev=False
    )
    parser.add_argument("--store", dest="path", metavar="PATH", help="the store's folder")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration of the store, a YAML file")
    parser.add_argument(
        "--tier",
        choices=("disk", "remote"),
        default="disk",
        help="the store's folder, or the remote of the configuration",
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


def in_force(args: argparse.Namespace) -> ConfigInForce:
    """The configuration of a command, with the flags that it has.

    Raises:
        ConfigError: it makes no sense.
    """
    return load_config({key: getattr(args, key, None) for key in KEYS}, args.config)


def config_of(args: argparse.Namespace) -> StoreConfig:
    """The same without the sources of its values.

    Raises:
        ConfigError: it makes no sense.
    """
    return in_force(args).config
