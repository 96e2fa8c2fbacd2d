"""`kvblend bench ingest`: what uploads do to the chats of another client, and how long they take."""

import argparse
import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from api.bench.arguments import add_ending, positive, share
from api.bench.report import finish, prepare_out
from blend.config import DEFAULT_MODEL

if TYPE_CHECKING:
    from api.load.uploads import Chats, Uploaded

PAGES = Path(__file__).parents[2] / "demo" / "docs"


def add_parser(subparsers: Any) -> None:
    """The subcommand's arguments."""
    parser = subparsers.add_parser(
        "ingest",
        help="uploads beside the chats of another client: times between tokens, alone and meanwhile",
        description="Starts `kvblend serve` on an empty store, streams chats one after the other, and then "
        "does so again while documents are uploaded.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--base-url", default=None, metavar="URL", help="of a running `kvblend serve`")
    add("--model", default=DEFAULT_MODEL, help="served model (default: %(default)s)")
    add("--files", type=positive, default=50, metavar="N", help="documents (default: %(default)s)")
    add("--words", type=positive, default=60, metavar="N", help="of a document (default: %(default)s)")
    add("--chats", type=positive, default=4, metavar="N", help="alone (default: %(default)s)")
    add("--decode-tokens", type=positive, default=192, metavar="N", help="of a chat (default: %(default)s)")
    add("--ingest-share", type=share, default=0.25, help="the server's (default: %(default)s)")
    add_ending(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns the exit status."""
    from api.load.serve_process import HOST, http_process

    prepare_out(args.out)
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory()))
        command = [sys.executable, "-m", "api.cli", "serve", "--store", str(place / "store"), "--host", HOST]
        command += ["--model", args.model, "--ingest-share", str(args.ingest_share)]
        log = (args.out or place) / "serve.log"
        url = args.base_url or stack.enter_context(http_process(command, log))
        alone, beside, idle_s = asyncio.run(_measure(args, url))
    line = {
        "bench": "ingest",
        "model": args.model if args.base_url is None else None,
        "ingest_share": args.ingest_share if args.base_url is None else None,
        "files": args.files,
        "words": args.words,
        "completed": beside.completed,
        "chats_beside": len(beside.chats.ttfts_ms),
        "chats_failed": len(alone.failed) + len(beside.chats.failed),
        "itl_p50_ms": {"alone": alone.percentile_ms(50), "beside": beside.chats.percentile_ms(50)},
        "itl_p99_ms": {"alone": alone.percentile_ms(99), "beside": beside.chats.percentile_ms(99)},
        "itl_max_ms": {"alone": max(alone.itls_ms), "beside": max(beside.chats.itls_ms)},
        "upload_s": {"idle": idle_s, "beside": beside.upload_s},
    }
    details = {"itls_ms": {"alone": alone.itls_ms, "beside": beside.chats.itls_ms}}
    finish(args, _table(alone, beside, idle_s), line, details)
    return 0


async def _measure(args: argparse.Namespace, url: str) -> "tuple[Chats, Uploaded, float]":
    """Chats alone, beside uploads, and the same number of other uploads to an idle server."""
    from api.load.client import LoadClient
    from api.load.uploads import chats_alone, chats_beside, upload

    busy, idle = (_texts(args.files, args.words, salt) for salt in ("first", "second"))
    async with LoadClient(url, 600.0) as client:
        await chats_alone(client, 1, args.decode_tokens)
        alone = await chats_alone(client, args.chats, args.decode_tokens)
        beside = await chats_beside(client, busy, f"bench-beside-{args.seed}", args.decode_tokens)
        _, idle_s = await upload(client.url, idle, f"bench-idle-{args.seed}")
    return alone, beside, idle_s


def _texts(num: int, num_words: int, salt: str) -> list[str]:
    """Different texts of so many words, from the demo's pages."""
    words = " ".join(path.read_text() for path in sorted(PAGES.glob("*.md"))).split()
    starts = [number * 37 % max(1, len(words) - num_words) for number in range(num)]
    return [
        f"Note {number} of the {salt} series. {' '.join(words[start : start + num_words])}"
        for number, start in enumerate(starts)
    ]


def _table(alone: "Chats", beside: "Uploaded", idle_s: float) -> str:
    rows = [
        f"{name:<22} {len(chats.ttfts_ms):>5}  {chats.percentile_ms(50):>7.0f} "
        f"{chats.percentile_ms(99):>7.0f} {max(chats.itls_ms):>7.0f}"
        for name, chats in (("alone", alone), ("beside the uploads", beside.chats))
    ]
    ratio = beside.chats.percentile_ms(99) / alone.percentile_ms(99)
    return "\n".join(
        [
            f"{'':<22} chats  p50, ms p99, ms max, ms   (between tokens)",
            *rows,
            f"p99 {ratio:.2f} times; {beside.completed} of {beside.documents} documents taken in within "
            f"{beside.upload_s:.0f} s, as many others by an idle server within {idle_s:.0f} s",
        ]
    )
