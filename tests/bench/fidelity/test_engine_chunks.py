"""What the engine is let find for each kind of chunks: the records of the other path, and no others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.fidelity.engine_chunks import EngineChunks
from bench.fidelity.hf_chunks import ChunkSource
from bench.fidelity.question import LabPrompt
from blend.chunks.chunk import ChunkKV, ChunkRecord, PositionGap, make_record
from blend.errors import RequestError
from blend.store.tiers.disk import DiskStore
from blend.text.lead import lead_ids
from blend.text.pieces import PieceTokenizer
from blend.vllm.worker.chunk_calls import as_batch
from tests.blend.text.conftest import byte_level

KINDS = ("alone", "prefixed", "led", "wrong")
PREFIX, FIRST, SECOND = (1, 2, 3), tuple(range(10, 30)), tuple(range(40, 70))
PROMPT = LabPrompt(
    "q", PREFIX, (FIRST, SECOND), (9,), (), (7, 8), ("answer",), tuple(ids[::-1] for ids in (FIRST, SECOND))
)
TOKENIZER = byte_level(add_prefix_space=False)
LEAD = lead_ids(PieceTokenizer(TOKENIZER).encode)


def kv(record: ChunkRecord) -> ChunkKV:
    """KV that tells which tokens it was computed from."""
    rows = torch.tensor(record.token_ids).float().expand(1, 1, 2, -1).transpose(1, 3).contiguous()
    return ChunkKV(record, rows, rows + record.offset)


class StoringEngine:
    """Stores made-up chunk KV and, as the workers do, the prefix's own beside it."""

    fingerprint = "f"
    max_batch_tokens = 25

    def __init__(self, store: Path) -> None:
        self.store = DiskStore(store)
        self.computed: list[ChunkRecord] = []

    def encode(self, text: str) -> list[int]:
        return PieceTokenizer(TOKENIZER).encode(text)

    def compute(self, records: Sequence[ChunkRecord]) -> None:
        (prefix_ids, numbers, _), _ = as_batch(records)
        position_gap = None if numbers is None else PositionGap(*numbers)
        self.computed += records
        for record in records:
            self.store.put(kv(record))
        prefix = make_record(self.fingerprint, (), prefix_ids, position_gap)
        if prefix_ids and prefix.chunk_id not in self.store:
            self.store.put(kv(prefix))


@pytest.fixture
def engine(tmp_path: Path) -> StoringEngine:
    return StoringEngine(tmp_path / "store")


@pytest.fixture
def chunks(engine: Any, tmp_path: Path) -> EngineChunks:
    return EngineChunks(engine, tmp_path / "shelf")


def found(engine: StoringEngine) -> dict[tuple[tuple[int, ...], tuple[int, ...]], list[float]]:
    """What the engine finds: prefix and tokens of each record, and what its KV was computed from."""
    records = [engine.store.record(chunk) for chunk in engine.store.ids()]
    seen = {}
    for record in records:
        assert record is not None
        stored = engine.store.get(record)
        assert stored is not None
        seen[record.prefix_ids, record.token_ids] = stored.keys[0, :, 0, 0].tolist()
    assert len(seen) == len(records), "no two records of the same tokens behind the same prefix"
    return seen


def expected(
    prompt: LabPrompt, kind: str, monkeypatch: pytest.MonkeyPatch
) -> dict[tuple[tuple[int, ...], tuple[int, ...]], list[float]]:
    def compute(model: Any, records: Sequence[ChunkRecord], known: Mapping[Any, Any] | None = None) -> Any:
        return [kv(record) for record in records]

    monkeypatch.setattr("bench.fidelity.hf_chunks.compute_chunks", compute)
    model: Any = None
    source = ChunkSource(model, "f", TOKENIZER).of(prompt, kind)
    return {(c.record.prefix_ids, c.record.token_ids): c.keys[0, :, 0, 0].tolist() for c in source}


@pytest.mark.parametrize("before", [(), (5, 6)])
def test_each_kind_is_found_alone_and_is_what_the_other_path_uses(
    engine: StoringEngine, chunks: EngineChunks, before: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = LabPrompt("q", PREFIX, PROMPT.chunks, (9,), before, (7, 8), ("answer",), PROMPT.wrong_chunks)
    for kind in (*KINDS, *KINDS[::-1]):
        chunks.show(prompt, kind)
        got = found(engine)
        if kind == "led":  # what its chunks stand behind is in no prompt, and so found in none
            del got[(), PREFIX + LEAD]
        assert got == expected(prompt, kind, monkeypatch), kind


def test_everything_is_computed_once_per_prompt_and_what_stands_before_chunks_once_for_all(
    engine: StoringEngine, chunks: EngineChunks
) -> None:
    for kind in (*KINDS, *KINDS):
        chunks.show(PROMPT, kind)
    ids = [record.chunk_id for record in engine.computed]
    assert len(ids) == len(set(ids))
    other = LabPrompt("r", PREFIX, (SECOND,), (9,), (), (7, 8), ("answer",), (FIRST[:1] * len(SECOND),))
    engine.computed.clear()
    for kind in (*KINDS, *KINDS):
        chunks.show(other, kind)
    assert not {PREFIX, PREFIX + LEAD} & {record.token_ids for record in engine.computed}
    assert all(FIRST not in (tokens, prefix) for prefix, tokens in found(engine))


def test_the_same_chunk_with_other_wrong_documents_has_another_id(
    engine: StoringEngine, chunks: EngineChunks
) -> None:
    # The workers keep what they have read under its id.
    chunks.show(PROMPT, "wrong")
    first = set(engine.store.ids())
    other = LabPrompt("r", PREFIX, PROMPT.chunks, (9,), (), (7,), (), ((3,) * 20, (4,) * 30))
    chunks.show(other, "wrong")
    assert len(first & set(engine.store.ids())) == 1, "the prefix"


def test_a_kind_that_does_not_exist_is_refused(chunks: EngineChunks) -> None:
    with pytest.raises(RequestError, match="neighbours"):
        chunks.show(PROMPT, "neighbours")
