"""`kvblend store config`: what is in force, and where each value comes from."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from api.store.arguments import add_verb, in_force
from api.store.table import render


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verb."""
    config = add_verb(verbs, "config", "print the configuration in force")
    config.add_argument("--disk-bytes", metavar="N", help="most bytes of chunk files of each model, or none")
    config.add_argument("--memory-bytes", metavar="N", help="most bytes of chunks in a worker's memory")
    config.add_argument("--codec", metavar="NAME", help="what packs the chunks that are written")
    return [config]


def run(args: argparse.Namespace) -> int:
    """Print each setting with its source."""
    found = in_force(args)
    values = {key: str(value) if key == "path" else value for key, value in asdict(found.config).items()}
    if args.json:
        print(
            json.dumps({key: {"value": value, "source": found.sources[key]} for key, value in values.items()})
        )
    else:
        rows = [
            (key, "none" if value is None else str(value), found.sources[key])
            for key, value in values.items()
        ]
        print(render(("setting", "value", "from"), rows))
    return 0
