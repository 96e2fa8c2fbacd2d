"""`kvblend store verify`: reads every byte of every chunk."""

import argparse
import json
from typing import Any

from api.store_tool.arguments import add_collection, add_ids, add_verb, config_of

EXIT_FAILED = 4


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verb."""
    verify = add_verb(verbs, "verify", "read every byte of stored chunks and compare their checksums")
    verify.epilog = "Exit status: 0 when all chunks are intact, or after --repair; 4 when a chunk is damaged."
    add_ids(verify, "*")
    add_collection(verify)
    verify.add_argument(
        "--repair", action="store_true", help="drop damaged chunks; the next precompute computes them again"
    )
    return [verify]


def run(args: argparse.Namespace) -> int:
    """Verify; returns 0 when no damaged chunk is left, else 4."""
    from api.store_tool.catalogue import Catalogue

    catalogue = Catalogue(config_of(args), args.tier)
    keys = catalogue.find_all(args.ids) if args.ids else list(catalogue.chunks(args.collection))
    damaged = {key: problem for key in keys if (problem := catalogue.problem(key)) is not None}
    found = [
        {
            "id": key.chunk_id,
            "model": key.mark,
            "problem": problem,
            "collections": list(catalogue.collections(key)),
            "dropped": args.repair,
        }
        for key, problem in damaged.items()
    ]
    if args.repair:
        for key in damaged:
            catalogue.stores[key.mark].drop(key.chunk_id)
    print(json.dumps({"checked": len(keys), "damaged": found}) if args.json else _render(len(keys), found))
    return EXIT_FAILED if damaged and not args.repair else 0


def _render(checked: int, damaged: list[dict[str, Any]]) -> str:
    lines = [f"{one['id']}: {one['problem']}; {_needed_by(one['collections'])}" for one in damaged]
    lines.append(f"{checked} checked, {len(damaged)} damaged{_next_step(damaged)}")
    return "\n".join(lines)


def _needed_by(collections: list[str]) -> str:
    return f"needed by {', '.join(collections)}" if collections else "needed by no collection"


def _next_step(damaged: list[dict[str, Any]]) -> str:
    if not damaged:
        return ""
    if not damaged[0]["dropped"]:
        return ": --repair drops them"
    return " and dropped: kvblend precompute computes again what a collection needs"
