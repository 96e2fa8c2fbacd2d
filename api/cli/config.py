"""`kvblend config`: the value of every setting, and where it comes from."""

import argparse
import json
from textwrap import shorten
from typing import Any

from api.cli.columns import aligned
from api.server.settings import ServeConfig
from blend.settings.group import Group, add_flags, flags_given, show
from blend.settings.load import load
from blend.settings.sources import add_config_flag, use_config_flag
from blend.store.config import StoreConfig
from precompute.config import PrecomputeSettings

GROUPS: tuple[type[Group], ...] = (ServeConfig, StoreConfig, PrecomputeSettings)
VALUE_CHARS = 60
"""A longer value is shortened in the table; JSON holds all of it."""


def add_parser(subparsers: Any) -> None:
    """The command takes the flags of `kvblend serve` that are kvblend's own."""
    parser = subparsers.add_parser(
        "config",
        help="print the settings in force, and where each comes from",
        description="Print the value of every setting, and where it comes from: default, file, variable or "
        "flag. Secrets are hidden. The flags are those of `kvblend serve`, without vLLM's.",
        allow_abbrev=False,
    )
    add_config_flag(parser)
    add_flags(parser, ServeConfig)
    add_flags(parser, StoreConfig)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print each setting with its origin.

    Raises:
        ConfigError: a setting is unknown or makes no sense.
    """
    use_config_flag(args)
    found = {group.section: _in_force(group, args) for group in GROUPS}
    if args.json:
        print(json.dumps(found))
        return 0
    rows = [
        (f"{section}.{key}", shorten(show(key, one["value"]), VALUE_CHARS), one["source"])
        for section, settings in found.items()
        for key, one in settings.items()
    ]
    print(aligned([("setting", "value", "from"), *rows], right=()))
    return 0


def _in_force(group: type[Group], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    flags = flags_given(args, group) if group is not PrecomputeSettings else {}
    found = load(group, flags)
    values = found.settings.model_dump(mode="json")  # hides secrets
    return {key: {"value": value, "source": found.origins[key]} for key, value in values.items()}
