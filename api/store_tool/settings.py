"""`kvblend store config`: what is in force, and where each value comes from."""

import argparse
import json
from typing import Any

from api.cli.columns import aligned
from api.cli.config import shown
from api.store_tool.arguments import add_verb, in_force


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verb."""
    config = add_verb(verbs, "config", "print the configuration in force")
    config.add_argument("--disk-bytes", metavar="N", help="most bytes of chunk files of each model, or none")
    config.add_argument(
        "--device-bytes", metavar="N", help="most bytes of chunks on a worker's device, or auto"
    )
    config.add_argument("--memory-bytes", metavar="N", help="most bytes of chunks in a worker's memory")
    config.add_argument("--codec", metavar="NAME", help="what packs the chunks that are written")
    config.add_argument("--remote", metavar="URL", help="server that machines share, or none")
    config.add_argument(
        "--remote-bytes", metavar="N", help="most bytes of each model's chunks there, or none"
    )
    config.add_argument(
        "--remote-deadline-ms", metavar="N", help="how long a request waits for a chunk from there"
    )
    config.add_argument("--remote-piece-bytes", metavar="N", help="most bytes of one value there")
    return [config]


def run(args: argparse.Namespace) -> int:
    """Print each setting with its source; a remote's secrets are not shown."""
    settings = shown(in_force(args))
    if args.json:
        print(json.dumps(settings))
    else:
        head = ("setting", "value", "from")
        rows = [
            (key, "none" if one["value"] is None else str(one["value"]), one["source"])
            for key, one in settings.items()
        ]
        print(aligned([head, *rows], right=()))
    return 0
