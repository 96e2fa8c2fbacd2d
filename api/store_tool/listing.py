"""`kvblend store ls`, `show` and `stats`: lists stored chunks."""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from api.cli.columns import aligned
from api.store_tool.arguments import add_collection, add_ids, add_verb, config_of
from api.store_tool.table import show_age, sum_line
from blend.settings.sizes import show_bytes

if TYPE_CHECKING:
    from api.store_tool.catalogue import Catalogue, Stored
    from blend.store.file_format.chunk_header import Part

SHOWN_DIGITS = 12
"""Digits of an id in a table: enough to be unique, and to be passed to another command."""


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verbs."""
    ls = add_verb(verbs, "ls", "list stored chunks")
    add_collection(ls)
    show = add_verb(verbs, "show", "show chunks in detail, and which collections need them")
    add_ids(show, "+")
    stats = add_verb(verbs, "stats", "count the stored chunks of each model")
    return [ls, show, stats]


def run(args: argparse.Namespace) -> int:
    """Run the verb and print its output."""
    from api.store_tool.catalogue import Catalogue

    catalogue = Catalogue(config_of(args), args.tier)
    verbs: dict[str, Callable[[Catalogue, argparse.Namespace], str]] = {
        "ls": _ls,
        "show": _show,
        "stats": _stats,
    }
    print(verbs[args.verb](catalogue, args))
    return 0


def as_object(one: "Stored") -> dict[str, Any]:
    """A stored chunk as a JSON object."""
    record = one.record
    return {
        "id": one.chunk_id,
        "model": one.mark,
        "tokens": None if record is None else record.num_tokens,
        "behind_tokens": None if record is None else record.offset,
        "left_out": None if record is None else (record.position_gap.by if record.position_gap else 0),
        "bytes": one.num_bytes,
        "codec": one.codec,
        "bytes_per_token": one.bytes_per_token,
        "used_s": one.used_s,
        "pinned": one.pinned,
        "collections": list(one.collections),
    }


def _ls(catalogue: "Catalogue", args: argparse.Namespace) -> str:
    rows = list(catalogue.stored(catalogue.chunks(args.collection)))
    if args.json:
        return json.dumps([as_object(one) for one in rows])
    head = ("id", "model", "tokens", "behind", "size", "codec", "per token", "used", "pin", "collections")
    cells = [
        (
            one.chunk_id[:SHOWN_DIGITS],
            catalogue.needs.models.get(one.mark, one.mark),
            "?" if one.record is None else str(one.record.num_tokens),
            "?" if one.record is None else str(one.record.offset),
            show_bytes(one.num_bytes),
            one.codec or "?",
            "?" if one.bytes_per_token is None else show_bytes(round(one.bytes_per_token)),
            show_age(one.used_s),
            "pin" if one.pinned else "",
            ", ".join(one.collections) or "-",
        )
        for one in rows
    ]
    table = aligned([head, *cells], right={"tokens", "behind", "size", "per token"})
    return f"{table}\n{sum_line(len(rows), sum(one.num_bytes for one in rows))}"


def _show(catalogue: "Catalogue", args: argparse.Namespace) -> str:
    keys = catalogue.find_all(args.ids)
    objects = [
        as_object(one)
        | {"file": catalogue.stores[one.mark].place(one.chunk_id), "parts": _parts(catalogue, one)}
        for one in catalogue.stored(keys)
    ]
    if args.json:
        return json.dumps(objects)
    return "\n\n".join(
        "\n".join(f"{name:<14} {_shown(value)}" for name, value in one.items()) for one in objects
    )


def _parts(catalogue: "Catalogue", one: "Stored") -> dict[str, str] | None:
    parts = catalogue.stores[one.mark].parts(one.chunk_id)
    return None if parts is None else {name: _described(part) for name, part in parts.items()}


def _described(part: "Part") -> str:
    """A tensor's dtype and shape, packed and unpacked."""
    here = f"{str(part.dtype)[6:]} {list(part.shape)}"
    if part.packing is None:
        return here
    return f"{here}, by {part.packing.codec}: {str(part.packing.dtype)[6:]} {list(part.packing.shape)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {text}" for name, text in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "unreadable: run kvblend store verify" if value is None else str(value)


def _stats(catalogue: "Catalogue", args: argparse.Namespace) -> str:
    objects = [_count(catalogue, mark) for mark in catalogue.stores]
    if args.json:
        return json.dumps(objects)
    if not objects:
        return "no model has stored anything"
    head = tuple(objects[0])
    cells = [tuple(_cell(name, value) for name, value in one.items()) for one in objects]
    return aligned([head, *cells], right=set(head) - {"model", "codecs"})


def _count(catalogue: "Catalogue", mark: str) -> dict[str, Any]:
    rows = list(catalogue.stored(key for key in catalogue.chunks() if key.mark == mark))
    tokens = sum(one.record.num_tokens for one in rows if one.record)
    readable_bytes = sum(one.num_bytes for one in rows if one.record)
    return {
        "model": catalogue.needs.models.get(mark, mark),
        "chunks": len(rows),
        "codecs": dict(sorted(Counter(one.codec or "unreadable" for one in rows).items())),
        "tokens": tokens,
        "bytes": sum(one.num_bytes for one in rows),
        "per_token_bytes": round(readable_bytes / tokens) if tokens else None,
        "budget_bytes": catalogue.stores[mark].budget_bytes,
        "pinned": sum(one.pinned for one in rows),
        "unneeded": sum(not one.collections for one in rows),
        "unreadable": sum(one.record is None for one in rows),
    }


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{count} {codec}" for codec, count in value.items()) or "none"
    return show_bytes(value) if name.endswith("bytes") else str(value)
