"""`kvblend store recompress`: packs stored chunks with another codec."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from api.store_tool.arguments import add_collection, add_ids, add_verb, config_of
from api.store_tool.table import sum_line
from blend.settings.sizes import show_bytes

if TYPE_CHECKING:
    from api.store_tool.catalogue import Catalogue, Key

EXIT_REFUSED = 4
DONE, SAME, REFUSED, DAMAGED = "recompressed", "unchanged", "refused", "damaged"


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verb."""
    recompress = add_verb(verbs, "recompress", "pack stored chunks with another codec, one after the other")
    recompress.epilog = (
        "A second run resumes an interrupted one. A chunk is replaced atomically, with its last use and its "
        "pin. Exit status: 4 when chunks were refused or are damaged, else 0."
    )
    add_ids(recompress, "*")
    add_collection(recompress)
    recompress.add_argument("--codec", required=True, metavar="NAME", help="raw, uniform or cachegen")
    recompress.add_argument(
        "--from-lossy",
        action="store_true",
        help="also chunks that a lossy codec has packed: what it dropped stays lost, raw restores nothing",
    )
    return [recompress]


def run(args: argparse.Namespace) -> int:
    """Recompress; returns 0 when every chunk has the codec in the end, else 4."""
    from api.store_tool.catalogue import Catalogue
    from blend.errors import RequestError
    from blend.store.codecs import codec
    from precompute.journal import store_lock

    if args.tier != "disk":
        raise RequestError(
            "recompress --tier remote: chunks are packed again in the folder; rm them there, and kvblend "
            "precompute sends what the folder holds"
        )
    wanted = codec(args.codec)
    catalogue = Catalogue(config_of(args))
    keys = catalogue.find_all(args.ids) if args.ids else list(catalogue.chunks(args.collection))
    with store_lock(catalogue.path):  # a running job writes with its own codec
        before = _num_bytes(catalogue, keys)
        fates = {key: _recompress(catalogue, key, wanted, from_lossy=args.from_lossy) for key in keys}
    found = {
        "codec": wanted.name,
        DONE: sum(fate == DONE for fate in fates.values()),
        SAME: sum(fate == SAME for fate in fates.values()),
        REFUSED: [key.chunk_id for key, fate in fates.items() if fate == REFUSED],
        DAMAGED: [key.chunk_id for key, fate in fates.items() if fate == DAMAGED],
        "bytes_before": before,
        "bytes": _num_bytes(catalogue, keys),
    }
    print(json.dumps(found) if args.json else _render(found))
    return EXIT_REFUSED if found[REFUSED] or found[DAMAGED] else 0


def _recompress(catalogue: "Catalogue", key: "Key", wanted: Any, *, from_lossy: bool) -> str:
    from api.store_tool.shelves import DiskShelf
    from blend.store.file_format.chunk_header import BadFileError
    from blend.store.file_format.recoding import LossyError, recode

    store = catalogue.stores[key.mark]
    assert isinstance(store, DiskShelf), "the command refuses other tiers"
    try:
        changed = recode(store, key.chunk_id, wanted, from_lossy=from_lossy)
    except LossyError:
        return REFUSED
    except BadFileError:
        return DAMAGED
    return DONE if changed else SAME


def _num_bytes(catalogue: "Catalogue", keys: "list[Key]") -> int:
    return sum(one.num_bytes for one in catalogue.stored(keys))


def _render(found: dict[str, Any]) -> str:
    now, before = sum_line(found[DONE], found["bytes"]), show_bytes(found["bytes_before"])
    lines = [
        f"{now} packed by {found['codec']} ({before} before); {found[SAME]} were so already, or are kept raw"
    ]
    if found[REFUSED]:
        lines.append(
            f"{len(found[REFUSED])} refused: a lossy codec has packed them, and no other restores what it "
            "dropped. kvblend store rm --force and kvblend precompute compute them again; --from-lossy packs "
            "what is left"
        )
    if found[DAMAGED]:
        lines.append(f"{len(found[DAMAGED])} damaged: kvblend store verify names them")
    return "\n".join(lines)
