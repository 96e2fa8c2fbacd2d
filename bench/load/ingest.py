"""`kvblend bench ingest`: how uploads slow the chats of another client, and how long they take."""

import argparse
import asyncio
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.arguments import add_ending, positive, share
from bench.report import finish, prepare_out, table
from blend.settings.defaults import DEFAULT_MODEL

if TYPE_CHECKING:
    from bench.load.chats import Chats
    from bench.load.uploads import Deleted, Uploaded

PAGES = Path(__file__).parents[2] / "demo" / "docs"


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "ingest",
        help="uploads beside the chats of another client: times between tokens, with and without",
        description="Starts `kvblend serve` on an empty store and streams chats one after the other: first "
        "alone, then while files are uploaded into a vector store. Then searches for each file, deletes "
        "some, and searches for these again.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--base-url", default=None, metavar="URL", help="of a running `kvblend serve`")
    add("--model", default=DEFAULT_MODEL, help="to serve (default: %(default)s)")
    add("--files", type=positive, default=50, metavar="N", help="to upload (default: %(default)s)")
    add("--delete", type=positive, default=3, metavar="N", help="files to delete (default: %(default)s)")
    add("--words", type=positive, default=60, metavar="N", help="of a file (default: %(default)s)")
    add("--chats", type=positive, default=4, metavar="N", help="without uploads (default: %(default)s)")
    add("--decode-tokens", type=positive, default=192, metavar="N", help="of a chat (default: %(default)s)")
    add("--ingest-share", type=share, default=0.25, help="of the server (default: %(default)s)")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    from bench.processes import kvblend_server

    prepare_out(args.out)
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory()))
        flags = ["--store", str(place / "store"), "--model", args.model]
        flags += ["--ingest-share", str(args.ingest_share)]
        log = (args.out or place) / "serve.log"
        url = args.base_url or stack.enter_context(kvblend_server(log, *flags))
        measured = asyncio.run(_measure(args, url))
    details = {"itls_ms": {"alone": measured.alone.itls_ms, "beside": measured.beside.itls_ms}}
    finish(args, _render(measured), _line(args, measured), details)
    return 0


class _Measured(NamedTuple):
    """Chats alone and beside uploads, these uploads, and as many others to an idle server.

    Attributes:
        found: files that a search for their own text finds first.
    """

    alone: "Chats"
    beside: "Chats"
    busy: "Uploaded"
    idle: "Uploaded"
    found: int
    deleted: "list[Deleted]"


async def _measure(args: argparse.Namespace, url: str) -> _Measured:
    from bench.load.chats import chats_alone, chats_during
    from bench.load.client import LoadClient
    from bench.load.uploads import delete, found, upload

    first, second = (_texts(args.files, args.words, salt) for salt in ("first", "second"))
    async with LoadClient(url, 600.0) as client:
        to = client.sdk
        await chats_alone(client, 1, args.decode_tokens)
        alone = await chats_alone(client, args.chats, args.decode_tokens)
        beside, busy = await chats_during(client, upload(to, first, "beside chats"), args.decode_tokens)
        num_found = await found(to, busy, first)
        numbers = range(min(args.delete, args.files))
        deleted = [await delete(to, client.model, busy, first, number) for number in numbers]
        idle = await upload(to, second, "idle server")
    return _Measured(alone, beside, busy, idle, num_found, deleted)


def _line(args: argparse.Namespace, measured: _Measured) -> dict[str, Any]:
    chats = {"alone": measured.alone, "beside": measured.beside}
    return {
        "bench": "ingest",
        "model": args.model if args.base_url is None else None,
        "ingest_share": args.ingest_share if args.base_url is None else None,
        "files": args.files,
        "words": args.words,
        "completed": measured.busy.completed,
        "found": measured.found,
        "deleted": len(measured.deleted),
        "cited_before": sum(one.was_cited for one in measured.deleted),
        "found_after": sum(one.is_found for one in measured.deleted),
        "cited_after": sum(one.is_cited for one in measured.deleted),
        "chats_beside": len(measured.beside.ttfts_ms),
        "chats_failed": sum(len(one.failed) for one in chats.values()),
        "itl_p50_ms": {name: one.percentile_ms(50) for name, one in chats.items()},
        "itl_p99_ms": {name: one.percentile_ms(99) for name, one in chats.items()},
        "itl_max_ms": {name: max(one.itls_ms) for name, one in chats.items()},
        "upload_s": {"idle": measured.idle.seconds, "beside": measured.busy.seconds},
    }


def _texts(num: int, num_words: int, salt: str) -> list[str]:
    """Different texts of so many words, from the demo's pages."""
    words = " ".join(path.read_text() for path in sorted(PAGES.glob("*.md"))).split()
    starts = [number * 37 % max(1, len(words) - num_words) for number in range(num)]
    return [
        f"Note {number} of the {salt} series. {' '.join(words[start : start + num_words])}"
        for number, start in enumerate(starts)
    ]


def _render(measured: _Measured) -> str:
    alone, beside, busy, deleted = measured.alone, measured.beside, measured.busy, measured.deleted
    rows = [
        (name, len(one.ttfts_ms), *(f"{one.percentile_ms(percent):.0f}" for percent in (50, 99, 100)))
        for name, one in (("alone", alone), ("beside the uploads", beside))
    ]
    num, over = len(busy.file_ids), beside.percentile_ms(99) / alone.percentile_ms(99)
    return "\n".join(
        [
            table(("ms between tokens", "chats", "p50", "p99", "max"), rows),
            "",
            f"p99 beside the uploads over p99 alone: {over:.2f}.",
            f"Ingested: {busy.completed} of {num} files within {busy.seconds:.0f} s beside the chats; as "
            f"many other files by an idle server within {measured.idle.seconds:.0f} s.",
            f"Found first by a search for their own text: {measured.found} of {num} files.",
            f"Deleted: {len(deleted)} files, {sum(one.was_cited for one in deleted)} of them cited before, "
            f"{sum(one.is_found for one in deleted)} found and {sum(one.is_cited for one in deleted)} cited "
            "right after.",
        ]
    )
