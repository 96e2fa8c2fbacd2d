"""`kvblend ask`: one question, answered in the terminal, with sources and figures below."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.cli.compare import Asker, Comparison, Reply, compare
from blend.plan.ratio import parse_ratio
from retriever.config import DEFAULTS
from retriever.search import Method

if TYPE_CHECKING:
    from api.cli.asker import Question


def add_parser(subparsers: Any) -> None:
    """The command's arguments."""
    parser = subparsers.add_parser("ask", help="ask a collection a question")
    parser.add_argument("question")
    parser.add_argument("--collection", required=True, metavar="NAME")
    add = parser.add_argument
    add(
        "--method",
        choices=tuple(Method),
        default=DEFAULTS.method,
        help="ranking method (default: %(default)s)",
    )
    add("--top-k", type=int, help=f"chunks to retrieve (default: {DEFAULTS.top_k}, or what --fit allows)")
    add("--fit", type=int, metavar="N", help="as many chunks as fit into N tokens")
    add(
        "--min-score",
        type=float,
        metavar="X",
        help="minimum cosine of a chunk; with bm25, minimum BM25 score",
    )
    add("--neighbours", type=int, default=0, metavar="N", help="also take N chunks before and after each one")
    add("--filter", type=json.loads, metavar="JSON", help="documents to search, as rag.filter over HTTP")
    parser.add_argument("--recompute-ratio", type=parse_ratio, default=None, help="in [0, 1], or auto")
    parser.add_argument("--selector", default=None, help="rule that picks the tokens to recompute")
    parser.add_argument(
        "--max-tokens", type=int, default=128, help="maximum tokens of the answer (default: %(default)s)"
    )
    parser.add_argument("--compare", action="store_true", help="also answer by full prefill, and time both")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--url", default=None, help="URL of a running server; without it an engine is started"
    )
    parser.add_argument("--store", type=Path, default=None, help="the store's folder")
    parser.add_argument("--model", default=None, help="the collection's model unless given")


def run(args: argparse.Namespace) -> int:
    """Answer and print; returns the exit status."""
    # Imported here, since these load the HTTP side and vLLM, which --help must not wait for.
    from api.cli.asker import Question
    from api.server.chat.options import read_options

    options = {
        "collection": args.collection,
        "method": args.method,
        "top_k": args.top_k,
        "max_tokens": args.fit,
        "min_score": args.min_score,
        "neighbours": args.neighbours,
        "filter": args.filter,
        "recompute_ratio": args.recompute_ratio,
        "selector": args.selector,
    }
    rag = read_options({"rag": {key: value for key, value in options.items() if value is not None}}).rag
    assert rag is not None
    question = Question(args.question, rag, args.max_tokens)
    with _asker(args, question) as asker:
        if args.compare:
            comparison = compare(asker)
            print(json.dumps(as_object(comparison.blended, comparison)) if args.json else both(comparison))
            return 0
        reply = asker.ask(blend=True, cache_salt=None, show=_ignore if args.json else _show)
        print(json.dumps(as_object(reply)) if args.json else "\n\n" + figures(reply))
    return 0


def as_object(reply: Reply, comparison: Comparison | None = None) -> dict[str, Any]:
    """What `--json` prints; `full`, `speedup` and `parting` are null unless `--compare` was given."""
    full = comparison and {"answer": comparison.full.answer, "ttft_ms": comparison.full.ttft_ms}
    return {
        "answer": reply.answer,
        "ttft_ms": reply.ttft_ms,
        "blend": reply.blend,
        "full": full,
        "speedup": comparison and comparison.speedup,
        "parting": asdict(comparison.parting) if comparison and comparison.parting else None,
    }


def figures(reply: Reply) -> str:
    """Sources and figures of an answer, as text."""
    blend = reply.blend
    sources = list(dict.fromkeys(chunk["source"] for chunk in blend["chunks"] if chunk["source"]))
    lines = [f"Sources: {', '.join(sources)}"] if sources else []
    if blend["fallback"] is None:
        kinds = ", ".join(
            f"{blend[f'{kind}_tokens']} {kind}" for kind in ("exact", "reused", "recomputed", "cold")
        )
        lines.append(
            f"Context: {blend['context_tokens']} tokens ({kinds}); "
            f"ratio {blend['ratio']:g}, selector {blend['selector']}"
        )
        steps = ("match", "load", "realign", "select", "recompute")
        lines.append("Blend:   " + ", ".join(f"{step} {blend[f'{step}_ms']:.0f} ms" for step in steps))
    else:
        lines.append(f"Not blended: {blend['fallback']}")
    lines.append(f"Time to first token: {reply.ttft_ms:.0f} ms")
    return "\n".join(lines)


def both(comparison: Comparison) -> str:
    """Both answers and the figures of the comparison, as text."""
    blended, full = comparison.blended, comparison.full
    return "\n\n".join(
        [
            f"Blended:\n{blended.answer.strip()}",
            f"Full prefill:\n{full.answer.strip()}",
            str(comparison.parting or "Both answers are the same, token for token."),
            figures(blended),
            f"Time to first token, medians: blended {blended.ttft_ms:.0f} ms, full prefill "
            f"{full.ttft_ms:.0f} ms: {comparison.speedup:.2f} times sooner",
        ]
    )


def _ignore(piece: str) -> None:
    pass


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


@contextmanager
def _asker(args: argparse.Namespace, question: "Question") -> Iterator[Asker]:
    from api.cli.asker import RemoteAsker, local_asker

    if args.url is not None:
        yield RemoteAsker(args.url, question, logprobs=args.compare)
        return
    with local_asker(question, args.store, args.model) as asker:
        yield asker
