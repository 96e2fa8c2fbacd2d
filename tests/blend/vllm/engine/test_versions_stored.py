"""What `Engine.precompute` stores of a text, and what the self-check takes away again: no model runs."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from blend.chunks.chunk import ChunkKV, ChunkRecord, PositionGap, make_record
from blend.chunks.versions import Prefixes, ids_of
from blend.errors import RequestError
from blend.store.tiers.disk import DiskStore
from blend.text.lead import lead_ids
from blend.vllm.engine.engine import Engine
from blend.vllm.gate import gate
from blend.vllm.gate.prompts import PROMPTS
from blend.vllm.worker.chunk_calls import as_batch

PREFIX = "Be brief."


class StoringEngine(Engine):
    """An engine without vLLM: a character is a token, and chunk KV is zeros."""

    def __init__(self, store: Path, max_model_len: int = 4096) -> None:
        self.fingerprint = self._scope = "f"
        self.max_model_len = max_model_len
        self.max_batch_tokens = 50
        self.store = DiskStore(store)
        self.exchange = None
        self.setup: Any = SimpleNamespace(not_blendable=None, settings=SimpleNamespace(recompute_ratio=0.15))
        self.calls: list[list[ChunkRecord]] = []

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def prefix_ids(self, prefix: str) -> tuple[int, ...]:
        return tuple(self.encode(prefix))

    def prefixes(self, prefix: str) -> Prefixes:
        return Prefixes(self.fingerprint, self.prefix_ids(prefix), lead_ids(self.encode), self.max_model_len)

    def check_model(self) -> None:
        """There is no model to find anything wrong with."""

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        (prefix_ids, numbers, _), _ = as_batch(records)
        position_gap = None if numbers is None else PositionGap(*numbers)
        self.calls.append(list(records))
        # As the workers do, who keep the prefix's own KV beside its chunks.
        for record in (make_record(self.fingerprint, (), prefix_ids, position_gap), *records):
            rows = torch.zeros(1, record.num_tokens, 1, 1)
            self.store.put(ChunkKV(record, rows, rows))
        return 0


def stored(engine: Engine) -> set[str]:
    return set(engine.store.ids())


def test_texts_are_stored_in_both_versions_and_named_by_the_plain_one(tmp_path: Path) -> None:
    engine = StoringEngine(tmp_path)
    texts = ["a" * 30, "b" * 15, "c" * 30]
    ids = engine.precompute(texts, prefix=PREFIX)
    plain_prefix = engine.prefix_ids(PREFIX)
    led_prefix = plain_prefix + lead_ids(engine.encode)
    assert ids == [make_record("f", plain_prefix, engine.encode(text)).chunk_id for text in texts]
    assert stored(engine) == ids_of(engine.records(texts, PREFIX))
    assert len(stored(engine)) == 2 * 3 + 2
    prefixes = [{record.prefix_ids for record in call} for call in engine.calls]
    assert prefixes == [{plain_prefix}, {plain_prefix}, {led_prefix}, {led_prefix}]
    assert [len(call) for call in engine.calls] == [2, 1, 2, 1], "no more than 50 tokens at once"


def test_only_the_version_that_is_missing_is_computed(tmp_path: Path) -> None:
    engine = StoringEngine(tmp_path)
    (chunk,) = engine.precompute(["a text"], prefix=PREFIX)
    engine.calls.clear()
    assert engine.precompute(["a text", "a text"], prefix=PREFIX) == [chunk, chunk]
    assert engine.calls == []
    _, led = engine.prefixes(PREFIX).versions(engine.encode("a text")).records
    for missing in (chunk, led.chunk_id):
        engine.store.delete(missing)
        engine.precompute(["a text", "a text"], prefix=PREFIX)
        assert [ids_of(call) for call in engine.calls] == [{missing}]
        engine.calls.clear()


def test_a_chunk_too_long_to_stand_behind_prefix_and_lead_has_its_plain_version_only(tmp_path: Path) -> None:
    room = len(PREFIX) + len(lead_ids(lambda text: list(map(ord, text)))) + 10
    engine = StoringEngine(tmp_path, max_model_len=room)
    fits, too_long = engine.precompute(["a" * 10, "b" * 11], prefix=PREFIX)
    assert {fits, too_long} < stored(engine)
    assert [[record.num_tokens for record in call] for call in engine.calls] == [[10, 11], [10]]
    short = StoringEngine(tmp_path / "short", max_model_len=100)
    short.precompute(["a"], prefix=PREFIX)
    assert len(stored(short)) == 2, "the lead itself has no room: it is not computed"


def test_an_empty_text_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    engine = StoringEngine(tmp_path)
    with pytest.raises(RequestError, match="empty chunk"):
        engine.precompute(["a text", ""])
    assert engine.calls == []


@pytest.mark.parametrize("fails", [False, True])
def test_the_self_check_takes_all_versions_away_and_leaves_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    engine = StoringEngine(tmp_path)
    prompt = PROMPTS[0]
    engine.precompute(["somebody's own", prompt.passages[0]], prefix=prompt.prefix)
    before = stored(engine)
    assert engine.prefixes(prompt.prefix).led_prefix(1).chunk_id in before

    def compare(engine: Engine, prompt: gate.GatePrompt) -> None:
        engine.precompute(prompt.passages, prefix=prompt.prefix)
        assert stored(engine) > before
        if fails:
            raise RuntimeError("the engine died")

    monkeypatch.setattr(gate, "_compare", compare)
    monkeypatch.setattr(gate, "judge", lambda comparisons, ratio: "judged")
    if fails:
        with pytest.raises(RuntimeError):
            gate.self_check(engine)
    else:
        assert gate.self_check(engine) == "judged"
    assert stored(engine) == before


def test_the_self_check_on_an_empty_store_leaves_an_empty_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StoringEngine(tmp_path)
    monkeypatch.setattr(gate, "_compare", lambda engine, p: engine.precompute(p.passages, prefix=p.prefix))
    monkeypatch.setattr(gate, "judge", lambda comparisons, ratio: None)
    gate.self_check(engine)
    assert engine.calls
    assert stored(engine) == set()
