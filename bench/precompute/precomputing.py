"""Precomputing chunks against the engine's own batched prefill of them: one repetition of each arm."""

import asyncio
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from bench.collection import NAME, make_collection
from blend.chunks.chunk import ChunkRecord
from blend.chunks.versions import Prefixes
from blend.store.tiers.disk import DiskStore
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.engine.engine import Engine
from blend.vllm.request_params import BlendParams
from precompute.config import DEFAULTS
from precompute.events import Computed, Event
from retriever.embed import Embedder
from retriever.layout import collection_folder


@dataclass(frozen=True, slots=True)
class Material:
    """The chunks to compute, and their prefixes.

    Attributes:
        plain, led: both versions of each chunk, as the job stores them.
    """

    texts: tuple[str, ...]
    chunk_tokens: int
    prefixes: Prefixes
    plain: tuple[ChunkRecord, ...]
    led: tuple[ChunkRecord, ...]

    @property
    def document_tokens(self) -> int:
        """Each token once."""
        return _tokens(self.plain)

    @property
    def kv_tokens(self) -> int:
        """Tokens whose KV is computed: of both versions."""
        return _tokens(self.plain) + _tokens(self.led)


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the precompute job.

    Attributes:
        seconds: of the whole job: reading, tokenising, computing, storing, embedding, publishing.
        compute_s: of computing and storing both versions, as the job's own clock has it.
        storing_s: of storing the same bytes once more, by itself.
        bytes: stored.
    """

    seconds: float
    compute_s: float
    storing_s: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Prefill:
    """The engine's own prefill of both versions of all chunks: a batch of plain ones, a batch of led ones.

    Attributes:
        tokens: computed, less what was found in the engine's cache: whole blocks of what stands before.
        plain_tokens, plain_s: of the batch of plain ones alone: what a document costs the engine once.
    """

    tokens: int
    seconds: float
    plain_tokens: int
    plain_s: float


def make_material(engine: Engine, texts: Sequence[str], chunk_tokens: int) -> Material:
    """Both versions of each text, behind the job's own prefix."""
    prefixes = engine.prefixes(DEFAULTS.prefix)
    versions = [prefixes.versions(engine.encode(text)) for text in texts]
    plain = tuple(one.plain for one in versions)
    led = tuple(one.led for one in versions if one.led is not None)
    return Material(tuple(texts), chunk_tokens, prefixes, plain, led)


def run_job(engine: Engine, embedder: Embedder, material: Material, store: Path) -> Job:
    """Run the job on an empty store, and empty the store again."""
    last: list[Computed] = []

    def report(event: Event) -> None:
        if isinstance(event, Computed):
            last[:] = [event]

    finished = make_collection(engine, embedder, material.texts, store, material.chunk_tokens, report)
    assert finished.reused == 0, "the store was empty"
    (computed,) = last
    storing_s = _storing_s(engine.store, [*material.plain, *material.led])
    for chunk_id in list(engine.store.ids()):
        engine.store.delete(chunk_id)
    shutil.rmtree(collection_folder(store, NAME))
    return Job(finished.seconds, computed.seconds, storing_s, computed.bytes)


def run_prefill(engine: Engine, material: Material) -> Prefill:
    """Prefill all chunks at once; the text before them is in the prefix cache, as in real use."""
    salt = uuid4().hex  # nothing of an earlier repetition is found
    engine.submit(_ask(material.prefixes.prefix_ids + material.prefixes.lead_ids, salt))
    plain_tokens, plain_s = _batch(engine, material.plain, salt)
    led_tokens, led_s = _batch(engine, material.led, salt)
    return Prefill(plain_tokens + led_tokens, plain_s + led_s, plain_tokens, plain_s)


def _batch(engine: Engine, records: Sequence[ChunkRecord], salt: str) -> tuple[int, float]:
    asks = [_ask(record.prefix_ids + record.token_ids, salt) for record in records]

    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*map(engine.asubmit, asks))

    begin = time.perf_counter()
    answers = asyncio.run(all_at_once())
    seconds = time.perf_counter() - begin
    pairs = zip(asks, answers, strict=True)
    return sum(len(ask.prompt_ids) - answer.prefix_hit_tokens for ask, answer in pairs), seconds


def _ask(prompt_ids: tuple[int, ...], salt: str) -> Ask:
    return Ask(prompt_ids, BlendParams(enabled=False), max_tokens=1, temperature=0.0, cache_salt=salt)


def _storing_s(store: DiskStore, records: Sequence[ChunkRecord]) -> float:
    """Seconds to store chunks that are stored already, beside where they are."""
    with TemporaryDirectory(dir=store.root.parent) as folder:
        beside, seconds = DiskStore(Path(folder)), 0.0
        for record in records:
            chunk = store.get(record)
            assert chunk is not None, "the job has stored it"
            begin = time.perf_counter()
            beside.put(chunk)
            seconds += time.perf_counter() - begin
            beside.delete(record.chunk_id)
    return seconds


def _tokens(records: Sequence[ChunkRecord]) -> int:
    return sum(record.num_tokens for record in records)
