"""`kvblend store gc`: evicts chunks over the budget, and drops unneeded ones."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from api.store_tool.arguments import add_verb, config_of, size
from api.store_tool.table import sum_line
from blend.errors import RequestError
from precompute.journal import store_lock

if TYPE_CHECKING:
    from api.store_tool.catalogue import Catalogue, Stored


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verb."""
    gc = add_verb(verbs, "gc", "evict the least recently used chunks of each model, pinned ones last")
    gc.add_argument(
        "--max-bytes",
        type=size,
        metavar="N",
        help="budget of each model, such as 20GB (default: the configured disk_bytes or remote_bytes)",
    )
    gc.add_argument(
        "--unneeded",
        action="store_true",
        help="first drop chunks that no collection needs and that are not pinned",
    )
    return [gc]


def run(args: argparse.Namespace) -> int:
    """Evict, and report what was removed and what is left."""
    from api.store_tool.catalogue import Catalogue

    config, is_remote = config_of(args), args.tier == "remote"
    if args.unneeded and is_remote:
        raise RequestError(
            "gc --unneeded: the collections of other machines that use the remote are unknown here"
        )
    catalogue = Catalogue(config, args.tier)
    budget = config.remote_bytes if is_remote else config.disk_bytes
    max_bytes = budget if args.max_bytes is None else args.max_bytes
    before = list(catalogue.stored(catalogue.chunks()))
    if args.unneeded:
        _drop_unneeded(catalogue, before)
    if max_bytes is not None:
        for store in catalogue.stores.values():
            store.shrink(max_bytes)
    left = {(key.mark, key.chunk_id) for key in catalogue.chunks()}
    gone = [one for one in before if (one.mark, one.chunk_id) not in left]
    found = {
        "max_bytes": max_bytes,
        "removed": [one.chunk_id for one in gone],
        "removed_bytes": sum(one.num_bytes for one in gone),
        "kept": len(before) - len(gone),
        "kept_bytes": sum(one.num_bytes for one in before) - sum(one.num_bytes for one in gone),
    }
    print(json.dumps(found) if args.json else _render(found))
    return 0


def _drop_unneeded(catalogue: "Catalogue", stored: "list[Stored]") -> None:
    with store_lock(catalogue.path):  # a running job may need chunks that no collection names yet
        catalogue.needs.check_known()
        for one in stored:
            if not one.collections and not one.pinned:
                catalogue.stores[one.mark].drop(one.chunk_id)


def _render(found: dict[str, Any]) -> str:
    removed = sum_line(len(found["removed"]), found["removed_bytes"])
    line = f"removed {removed}; kept {sum_line(found['kept'], found['kept_bytes'])}"
    return (
        line if found["max_bytes"] is not None else f"{line} (no budget: --max-bytes or disk_bytes sets one)"
    )
