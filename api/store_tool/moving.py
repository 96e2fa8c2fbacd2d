"""`kvblend store export` and `import`: chunks as one tar file, verified on export and on import."""

import argparse
import json
from pathlib import Path
from typing import Any

from api.store_tool.arguments import add_collection, add_ids, add_verb, config_of
from api.store_tool.table import sum_line
from blend.errors import RequestError


def add_parsers(verbs: Any) -> list[argparse.ArgumentParser]:
    """Arguments of the verbs."""
    export = add_verb(verbs, "export", "write chunks into a tar file")
    export.add_argument("file", metavar="FILE", type=Path, help="tar file to write")
    add_ids(export, "*")
    add_collection(export)
    taking = add_verb(verbs, "import", "read the chunks of a tar file that export wrote")
    taking.add_argument("file", metavar="FILE", type=Path, help="tar file to read")
    return [export, taking]


def run(args: argparse.Namespace) -> int:
    """Write or read a tar file; damaged chunks are neither exported nor imported."""
    if args.tier != "disk":
        raise RequestError(
            f"{args.verb} --tier remote: only chunks of the folder are exported and imported; kvblend "
            "precompute fetches from a remote and sends to it"
        )
    done = _export(args) if args.verb == "export" else _import(args)
    line = f"{args.verb}ed {sum_line(done['chunks'], done['bytes'])}: {args.file}"
    print(json.dumps(done) if args.json else line)
    return 0


def _export(args: argparse.Namespace) -> dict[str, Any]:
    from api.store_tool.archive import write_archive
    from api.store_tool.catalogue import Catalogue

    catalogue = Catalogue(config_of(args), args.tier)
    keys = catalogue.find_all(args.ids) if args.ids else list(catalogue.chunks(args.collection))
    chunks, num_bytes = write_archive(args.file, catalogue, keys)
    return {"chunks": chunks, "bytes": num_bytes}


def _import(args: argparse.Namespace) -> dict[str, Any]:
    from api.store_tool.archive import read_archive
    from blend.store.layout import chunks_folder
    from blend.store.tiers.disk import DiskStore

    config, stores = config_of(args), dict[str, DiskStore]()
    chunks = num_bytes = 0
    for mark, chunk_id, data in read_archive(args.file):
        if mark not in stores:
            stores[mark] = DiskStore(chunks_folder(config.path, mark), config.disk_bytes)
        stores[mark].put_file(
            chunk_id, [memoryview(data)]
        )  # as it is: a codec is not run on what another one left
        chunks, num_bytes = chunks + 1, num_bytes + len(data)
    return {"chunks": chunks, "bytes": num_bytes}
