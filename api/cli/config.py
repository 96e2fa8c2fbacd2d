"""`kvblend config`: what is in force for the server and the store, and where each value comes from."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from api.cli.columns import aligned
from api.cli.serve import add_arguments, said_by
from api.server.settings import load_serve_config
from blend.settings.layered import InForce
from blend.store.config import ConfigInForce, load_config
from blend.store.remote.url import hide

_HIDDEN = "***"
_SECRET_FLAGS = ("api-key", "hf-token")


def add_parser(subparsers: Any) -> None:
    """The command takes the flags of `kvblend serve` that are its own."""
    parser = subparsers.add_parser(
        "config",
        help="print the settings in force, and where each comes from",
        description="Print the settings in force for the server and the store, and where each comes from.",
        allow_abbrev=False,
    )
    parser.add_argument("--store", type=Path, default=None, help="the store's folder")
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print each setting with its source; secrets are not shown.

    Raises:
        ConfigError: a setting is unknown or makes no sense.
    """
    _, served = load_serve_config(said_by(args))
    found = {"serve": _served(served), "store": shown(load_config({"path": args.store}))}
    if args.json:
        print(json.dumps(found))
        return 0
    head = ("setting", "value", "from")
    rows = [
        (f"{group}.{key}", "none" if one["value"] is None else _text(one["value"]), one["source"])
        for group, settings in found.items()
        for key, one in settings.items()
    ]
    print(aligned([head, *rows], right=()))
    return 0


def shown(found: ConfigInForce) -> dict[str, dict[str, Any]]:
    """The store's settings with their sources; a remote's secrets are not shown."""
    values = asdict(found.config)
    values["path"] = str(found.config.path)
    values["remote"] = None if found.config.remote is None else hide(found.config.remote)
    return {key: {"value": value, "source": found.sources[key]} for key, value in values.items()}


def _served(found: InForce) -> dict[str, dict[str, Any]]:
    values = dict(found.values)
    values["key_file"] = None if values["key_file"] is None else str(values["key_file"])
    values["vllm"] = {
        name: _HIDDEN if name.replace("_", "-") in _SECRET_FLAGS else value
        for name, value in values["vllm"].items()
    }
    return {key: {"value": value, "source": found.sources[key]} for key, value in values.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
