"""Questions, methods and a header for runs without a model."""

import pytest

from bench.fidelity.journal import Header
from bench.fidelity.methods import Method
from bench.fidelity.question import Question

METHODS = (
    Method("none", "none", None, 0.0),
    Method("reuse", "alone", None, 0.0),
    Method("random", "alone", "random", 0.15),
    Method("random", "alone", "random", 0.5),
    Method("cacheblend", "alone", "deviation", 0.15),
    Method("cacheblend", "alone", "deviation", 0.5),
)
HEADER = Header("tiny", "0" * 64, "random", "q.jsonl", "d" * 64, 2, 1, "Be brief.", False, 4, 0, None)


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    return [
        Question(f"nq-{i}", f"What is {i}?", ("the cache",), (f"Chunk {i}.", "A chunk."), ("token", "model"))
        for i in range(4)
    ]
