"""Kills a real process at every durable step of a job, and finishes the job each time; run by test_killed.py.

Prints one JSON object for each kill. A job writes durably by renaming, so these are all its steps; it is
killed just before the n-th rename, and just after it.
"""

import json
import os
import shutil
import signal
import sys
from itertools import count
from pathlib import Path

from precompute.config import PrecomputeConfig
from precompute.job import Precompute
from retriever.collection import Collection
from retriever.errors import UnknownCollection
from tests.support.fake_engine import FakeEngine
from tests.support.word_embedder import WordEmbedder


def run_job(folder: Path, store: Path) -> FakeEngine:
    engine = FakeEngine(store)
    config = PrecomputeConfig(folder, store, "docs", chunk_tokens=32, prefix="Be brief.")
    Precompute(engine, WordEmbedder(), config, lambda _: None).run()
    return engine


def kill_at_rename(number: int, before: bool) -> None:
    replace, calls = os.replace, count(1)

    def replace_or_die(source: Path, target: Path) -> None:
        mine = next(calls) == number
        if mine and before:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace_or_die


def killed(folder: Path, store: Path, number: int, before: bool) -> bool:
    """Run the job in a process that is killed at a rename; False when it ended before that."""
    child = os.fork()
    if child == 0:
        kill_at_rename(number, before)
        run_job(folder, store)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def published(store: Path) -> list[str] | None:
    """Ids that the published collection names, or None."""
    try:
        return sorted(Collection.open(store, "docs").manifest.chunk_ids)
    except UnknownCollection:
        return None


def kill_everywhere(scenario: Path) -> None:
    """Kill a job over `scenario/killed` at each of its steps, and go on with one over `scenario/finished`."""
    base = scenario / "base"
    base.mkdir()
    if any((scenario / "before").iterdir()):
        run_job(scenario / "before", base)
    for number in count(1):
        for before in (True, False):
            store = scenario / "stores" / f"{number}-{before}"
            shutil.copytree(base, store)
            if not killed(scenario / "killed", store, number, before):
                return
            stored = sorted(FakeEngine(store).store.ids())
            named = published(store)
            engine = run_job(scenario / "finished", store)
            report = {
                "scenario": scenario.name,
                "stored_when_killed": stored,
                "published_when_killed": named,
                "computed_after": sorted(record.chunk_id for record in engine.computed),
                "stored_in_the_end": sorted(engine.store.ids()),
                "published_in_the_end": published(store),
                "journal_left": (store / "collections" / "docs" / "unfinished.json").exists(),
            }
            print(json.dumps(report))


if __name__ == "__main__":
    os.fsync = lambda _: None  # slow, and what a process has written outlives it without
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        kill_everywhere(folder)
