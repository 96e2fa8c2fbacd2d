"""`make demo`: precompute `demo/docs`, then answer three questions, each blended and by full prefill."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from api.cli.ask import both
from api.cli.asker import LocalAsker, Question
from api.cli.compare import compare
from api.server.chat.options import RagOptions
from api.server.collections.library import Library
from blend import Engine
from precompute.config import DEFAULTS, PrecomputeConfig
from precompute.job import Precompute
from precompute.progress import open_report
from retriever.embed import open_embedder

HERE = Path(__file__).parent
STORE = Path(".kvblend")
COLLECTION = "demo"
TOP_K = 4
MAX_TOKENS = 24
"""So far the answers are the same at ratios 0.15, 0.3 and 1.0 and by full prefill, in both dtypes."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A question whose answer stands plainly in one page.

    Attributes:
        expect: a word that a right answer contains.
    """

    question: str
    expect: str
    page: str


def main() -> None:
    """One engine for everything; the commands that do the same are printed at the end."""
    begin = time.monotonic()
    print("Starting the engine (vLLM, SmolLM2-135M-Instruct) ...", flush=True)
    with Engine(store=STORE) as engine:
        precompute(engine)
        library = Library(STORE, [COLLECTION])
        speedups = [ask(engine, library, Expected(**item)) for item in questions()]
    print(f"\nFirst token sooner by: {', '.join(f'{speedup:.1f}x' for speedup in speedups)}")
    print(f"Done in {time.monotonic() - begin:.0f} s. To do the same by hand, and to serve it:\n")
    for command in (
        "precompute demo/docs",
        "ask 'What is an attention sink?' --compare",
        "serve --port 8000",
    ):
        print(f"  .venv/bin/kvblend {command} --collection {COLLECTION} --store {STORE}")


def precompute(engine: Engine) -> None:
    """The demo's documents into the demo's store."""
    config = PrecomputeConfig(HERE / "docs", STORE, COLLECTION)
    with open_report(as_json=False) as report:
        Precompute(engine, open_embedder(DEFAULTS.embedder), config, report).run()


def ask(engine: Engine, library: Library, expected: Expected) -> float:
    """Answer one question both ways and print them; returns how many times sooner the first token came."""
    print(f"\n=== {expected.question}", flush=True)
    question = Question(expected.question, RagOptions(collection=COLLECTION, top_k=TOP_K), MAX_TOKENS)
    comparison = compare(LocalAsker(engine, library, question))
    print(both(comparison), flush=True)
    return comparison.speedup


def questions() -> list[dict[str, str]]:
    """The three questions, as `Expected`'s fields."""
    items: list[dict[str, str]] = json.loads((HERE / "questions.json").read_text())
    return items


if __name__ == "__main__":
    main()
