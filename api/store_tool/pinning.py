"""`kvblend store pin` and `unpin`: pinned chunks are evicted last."""

import argparse
import json
from typing import Any

from api.store_tool.arguments import add_collection, add_ids, add_verb, config_of
from blend.errors import RequestError


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verbs."""
    pin = add_verb(verbs, "pin", "evict these chunks after all others")
    unpin = add_verb(verbs, "unpin", "remove pins from chunks")
    for parser in (pin, unpin):
        add_ids(parser, "*")
        add_collection(parser)
    return [pin, unpin]


def run(args: argparse.Namespace) -> int:
    """Pin or unpin chunks by their ids, or all that a collection needs."""
    from api.store_tool.catalogue import Catalogue

    if bool(args.ids) == (args.collection is not None):
        raise RequestError(f"{args.verb}: expected ids of chunks, or --collection NAME")
    catalogue = Catalogue(config_of(args), args.tier)
    unpins = args.verb == "unpin"
    keys = catalogue.find_all(args.ids, pins=unpins) if args.ids else list(catalogue.chunks(args.collection))
    for key in keys:
        store = catalogue.stores[key.mark]
        if unpins:
            store.unpin(key.chunk_id)
        else:
            store.pin(key.chunk_id)
    ids = [key.chunk_id for key in keys]
    print(json.dumps({args.verb: ids}) if args.json else f"{args.verb}: {', '.join(ids) or 'nothing'}")
    return 0
