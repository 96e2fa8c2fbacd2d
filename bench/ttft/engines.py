"""The engines that are compared: stock vLLM, and kvblend in it, with equal model, flags and CPU binding."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.cost import shape_of_folder
from bench.ttft.arm import BLEND, PLAIN, Arm
from bench.ttft.backend import Reply, Request
from bench.ttft.case import DEVICE, DISK_COLD, DISK_WARM, MEMORY, REDIS
from bench.ttft.cpu import children
from bench.ttft.prompts import Ids
from blend.chunks.chunk import ChunkRecord, computable_batches
from blend.chunks.versions import Prefixes
from blend.errors import NotBlendable, StoreError
from blend.store.file_format.durable import drop_page_cache
from blend.store.remote.exchange import Exchange
from blend.store.remote.view import EVERY_S
from blend.store.tiers.ledger import SUFFIX
from blend.text.lead import lead_ids
from blend.vllm.engine.answer import Answer, Ask
from blend.vllm.engine.engine import Engine
from blend.vllm.engine.plain import PlainEngine
from blend.vllm.request_params import BlendParams
from blend.vllm.version import installed_vllm

ENGINES = {
    MEMORY: BLEND,
    DISK_WARM: "blend from disk",
    DISK_COLD: "blend from disk",
    DEVICE: "blend from the device",
    REDIS: "blend from Redis",
}
"""Name of the blending engine that answers from each tier."""
DEVICE_BYTES = 2 << 30
REMOTE_DEADLINE_MS = 10_000
"""Long, so that a measurement waits for chunks instead of computing them."""


class VllmEngines:
    """Engines over one store; see `Backend`. The plain one and a blending one run from the start.

    Args:
        model: name, local Hugging Face folder, GGUF file or hub id.
        store: the store's folder; a temporary one when None.
        redis: URL of a server, for that tier.
        overrides: `sharing`, and any argument of vLLM's `AsyncEngineArgs`; the same for all engines.

    Raises:
        NotBlendable: the model's KV cannot be blended.
    """

    def __init__(
        self, model: str, store: Path | None = None, redis: str | None = None, **overrides: Any
    ) -> None:
        self._model, self._overrides = model, overrides
        self._redis = redis
        self._engines: dict[str, Engine | PlainEngine] = {}
        self.processes: dict[str, tuple[int, ...]] = {}
        with ExitStack() as stack:
            self._folder = store or Path(stack.enter_context(TemporaryDirectory(prefix="kvblend-")))
            self._empty = Path(stack.enter_context(TemporaryDirectory(prefix="kvblend-")))
            stack.callback(self._close_engines)
            self._blending = self._start(BLEND, self._blending_engine)
            setup = self._blending.setup
            if setup.not_blendable is not None:
                raise NotBlendable(setup.not_blendable)
            self.shape = shape_of_folder(setup.arguments["model"])
            self._held = stack.pop_all()
        self.model_name, self.version = setup.model_name, installed_vllm()
        self.device = self._blending.device
        self.tokenizer: Any = self._blending.tokenizer
        self.max_tokens = self._blending.max_model_len

    def open(self, tiers: Sequence[str]) -> None:
        """Start what is not running; see `Backend`."""
        if PLAIN not in self._engines:
            self._start(PLAIN, lambda: PlainEngine(self._blending.setup))
        for tier in tiers:
            if ENGINES[tier] not in self._engines:
                self._start(ENGINES[tier], partial(self._blending_engine, **self._settings(tier)))

    def engine_of(self, arm: Arm, tier: str) -> str:
        """See `Backend`."""
        if arm.engine == PLAIN:
            return PLAIN
        return ENGINES[tier]

    def store(self, prefix_ids: Ids, chunks: Sequence[Ids]) -> None:
        """Compute and store both versions of each chunk; see `Backend`."""
        engine = self._blending
        prefixes = Prefixes(engine.fingerprint, prefix_ids, lead_ids(engine.encode), engine.max_model_len)
        versions = [prefixes.versions(ids) for ids in chunks]
        self._compute([one.plain for one in versions])
        self._compute([one.led for one in versions if one.led is not None])
        from_redis = self._engines.get(ENGINES[REDIS])
        if isinstance(from_redis, Engine):
            assert from_redis.exchange is not None, "it has a remote"
            ours = Exchange(self._blending.store, from_redis.exchange.remote)
            sent = ours.flush(list(self._blending.store.ids()))
            if sent.missing:
                raise StoreError(f"{sent.missing} chunks are not on the Redis server: {sent.problem}")
            time.sleep(2 * EVERY_S)  # until the engine has seen them

    def ask(self, engine: str, arm: Arm, requests: Sequence[Request]) -> list[Reply]:
        """Each for one token; see `Backend`."""
        params = BlendParams(
            enabled=arm.ratio is not None,
            recompute_ratio=arm.ratio,
            selector=arm.selector,
            gate_key=self._gate_key(engine),
            trace=True,
        )
        asks = [Ask(request.prompt.ids, params, 1, 0.0, request.salt) for request in requests]
        return [_reply(answer) for answer in asyncio.run(_together(self._engines[engine], asks))]

    def drop_file_cache(self) -> None:
        """See `Backend`. A chunk's file is on the disk already: it was synced when it was written."""
        for path in self._blending.store.root.glob(f"*{SUFFIX}"):
            drop_page_cache(path)

    def close(self) -> None:
        """Stop the engines, and remove a temporary store; a second call does nothing."""
        self._held.close()

    def _settings(self, tier: str) -> dict[str, Any]:
        """Arguments of an engine whose chunks come from a tier."""
        if tier == DEVICE:
            return {"device_bytes": DEVICE_BYTES}
        if tier != REDIS:
            return {"memory_bytes": 0}
        remote = {"remote": self._redis, "remote_deadline_ms": REMOTE_DEADLINE_MS}
        # An empty folder with room for no chunk: nothing that is read from the server is cached.
        return {"store": self._empty, "disk_bytes": 1, "memory_bytes": 0, **remote}

    def _blending_engine(self, store: Path | None = None, **more: Any) -> Engine:
        return Engine(self._model, store or self._folder, self_check=False, **self._overrides, **more)

    def _start(self, name: str, start: Callable[[], Any]) -> Any:
        before = children()
        self._engines[name] = engine = start()
        self.processes[name] = tuple(sorted(children() - before))
        return engine

    def _close_engines(self) -> None:
        while self._engines:
            self._engines.popitem()[1].close()

    def _gate_key(self, name: str) -> str | None:
        engine = self._engines[name]
        return engine.setup.settings.gate_key if isinstance(engine, Engine) else None

    def _compute(self, records: Sequence[ChunkRecord]) -> None:
        missing = (record for record in records if record.chunk_id not in self._blending.store)
        for batch in computable_batches(missing, self._blending.max_batch_tokens):
            self._blending.compute(batch)


async def _together(engine: Engine | PlainEngine, asks: Sequence[Ask]) -> list[Answer]:
    return list(await asyncio.gather(*map(engine.asubmit, asks)))


def _reply(answer: Answer) -> Reply:
    return Reply(answer.ttft_ms, answer.prefix_hit_tokens, answer.prefill_ms, answer.stats)
