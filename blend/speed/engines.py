"""The bench's engines: vLLM as it is, and kvblend in it, with the same model, flags and binding."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blend.chunk import ChunkRecord, batches
from blend.cost import shape_of_folder
from blend.errors import NotBlendable
from blend.speed.arm import BLEND, PLAIN, Arm
from blend.speed.backend import Reply, Request
from blend.speed.case import MEMORY
from blend.speed.processes import children
from blend.speed.prompts import Ids
from blend.store.ledger import SUFFIX
from blend.store.page_cache import forget_pages
from blend.text.lead import lead_ids
from blend.versions import Prefixes
from blend.vllm.answer import Answer, Ask
from blend.vllm.engine import Engine
from blend.vllm.plain import PlainEngine
from blend.vllm.request_params import BlendParams
from blend.vllm.version import installed_vllm

FROM_DISK = "blend from disk"
"""Name of the blending engine that keeps no chunk in memory."""


class VllmEngines:
    """Engines over one store; see `Backend`. The plain one and a blending one run from the start.

    Args:
        model: name, local Hugging Face folder, GGUF file or hub id.
        store: the store's folder; one that goes when it is closed, when None.
        overrides: `sharing`, and any argument of vLLM's `AsyncEngineArgs`; the same for all engines.

    Raises:
        NotBlendable: the model's KV cannot be blended.
    """

    def __init__(self, model: str, store: Path | None = None, **overrides: Any) -> None:
        self._model, self._overrides = model, overrides
        self._engines: dict[str, Engine | PlainEngine] = {}
        self.processes: dict[str, tuple[int, ...]] = {}
        with ExitStack() as stack:
            self._folder = store or Path(stack.enter_context(TemporaryDirectory(prefix="kvblend-")))
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
        if set(tiers) - {MEMORY} and FROM_DISK not in self._engines:
            self._start(FROM_DISK, lambda: self._blending_engine(memory_bytes=0))

    def engine_of(self, arm: Arm, tier: str) -> str:
        """See `Backend`."""
        if arm.engine == PLAIN:
            return PLAIN
        return BLEND if tier == MEMORY else FROM_DISK

    def store(self, prefix_ids: Ids, chunks: Sequence[Ids]) -> None:
        """Both versions of each chunk; see `Backend`."""
        engine = self._blending
        prefixes = Prefixes(engine.fingerprint, prefix_ids, lead_ids(engine.encode), engine.max_model_len)
        versions = [prefixes.versions(ids) for ids in chunks]
        self._compute([one.plain for one in versions])
        self._compute([one.led for one in versions if one.led is not None])

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
            forget_pages(path)

    def close(self) -> None:
        """Stop the engines, and remove a store that was theirs alone; a second call does nothing."""
        self._held.close()

    def _blending_engine(self, **more: Any) -> Engine:
        return Engine(self._model, self._folder, self_check=False, **self._overrides, **more)

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
        missing = [record for record in records if record.chunk_id not in self._blending.store]
        for batch in batches(missing, self._blending.max_batch_tokens):
            self._blending.compute(batch)


async def _together(engine: Engine | PlainEngine, asks: Sequence[Ask]) -> list[Answer]:
    return list(await asyncio.gather(*map(engine.asubmit, asks)))


def _reply(answer: Answer) -> Reply:
    return Reply(answer.ttft_ms, answer.prefix_hit_tokens, answer.prefill_ms, answer.stats)
