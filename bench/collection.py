"""A collection of given chunks, built by the precompute job that users run."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from precompute.config import PrecomputeConfig
from precompute.engine import ChunkEngine
from precompute.events import Finished, Report
from precompute.job import Precompute
from precompute.progress import PlainLines
from retriever.embed import Embedder

NAME = "bench"


def make_collection(
    engine: ChunkEngine,
    embedder: Embedder,
    texts: Sequence[str],
    store: Path,
    chunk_tokens: int,
    report: Report | None = None,
) -> Finished:
    """Write each text into a file of its own, and run the job on them.

    Args:
        texts: the chunks, in their order: all different, at most `chunk_tokens` long, without white space at
            their ends.
        store: the folder of the engine's store.
        report: receives the job's events; None prints them to standard error.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        for number, text in enumerate(texts):
            (folder / f"{number:06}.txt").write_text(text, encoding="utf-8")
        config = PrecomputeConfig(folder, store, NAME, chunk_tokens)
        finished = Precompute(engine, embedder, config, report or PlainLines(sys.stderr, sys.stderr)).run()
    assert finished.chunks == len(texts), "each text is one chunk: the splitter cut one, or two are equal"
    return finished
