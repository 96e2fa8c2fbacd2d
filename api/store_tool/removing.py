"""`kvblend store rm`: removes chunks, unless a collection needs them."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from api.store_tool.arguments import add_ids, add_verb, config_of
from blend.errors import RequestError
from precompute.journal import store_lock

if TYPE_CHECKING:
    from api.store_tool.catalogue import Catalogue, Key


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verb."""
    rm = add_verb(verbs, "rm", "remove chunks and their pins")
    add_ids(rm, "+")
    rm.add_argument("--force", action="store_true", help="also remove chunks that a collection needs")
    return [rm]


def run(args: argparse.Namespace) -> int:
    """Remove all named chunks, or none."""
    from api.store_tool.catalogue import Catalogue

    catalogue = Catalogue(config_of(args), args.tier)
    keys = catalogue.find_all(args.ids)
    with store_lock(catalogue.path):  # a running job may need chunks that no collection names yet
        if not args.force:
            _refuse_needed(catalogue, keys)
        for key in keys:
            catalogue.stores[key.mark].delete(key.chunk_id)
    ids = [key.chunk_id for key in keys]
    print(json.dumps({"removed": ids}) if args.json else f"removed {', '.join(ids)}")
    return 0


def _refuse_needed(catalogue: "Catalogue", keys: "list[Key]") -> None:
    catalogue.needs.check_known()
    for key in keys:
        collections = catalogue.collections(key)
        if collections:
            raise RequestError(
                f"chunk {key.chunk_id} is needed by {', '.join(collections)}; nothing was removed: "
                "--force removes them anyway"
            )
