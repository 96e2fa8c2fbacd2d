"""Chunk KV from the engine that serves, in slices between its steps and within a share of its time."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any

from api.server.ingest.pacing import Interrupted, Interruption, Pace
from blend.chunks.chunk import ChunkRecord
from blend.chunks.versions import Prefixes
from blend.store.tiers.disk import DiskStore
from blend.text.prompt_ids import PromptIds
from blend.vllm.engine.setup import EngineSetup
from blend.vllm.worker.chunk_calls import as_batch, stored_bytes

IDLE_SLICE_S = 0.2
"""Of computing at once while nobody is served: who comes then waits no longer for the engine."""

HEED_EVERY_S = 0.5
"""Between two looks at whether the run is to stop, while the engine has not replied."""

BATCH_TOKENS = 512
"""Short chunks are computed together; what was computed is stored, and reported, after about so many."""


class ServingEngine:
    """Implements `precompute.engine.ChunkEngine` over a running server's engine.

    Its methods are called from one thread that is not the event loop's.

    Args:
        client: vLLM's `EngineClient`.
        loop: the client's.
        tokenizer: the served model's.
        setup: what the engine was started with.
        namespace: whose chunks are computed, see `blend.chunks.namespace`.

    Raises:
        NotBlendable: the tokenizer has no fast form.
    """

    max_batch_tokens = BATCH_TOKENS

    def __init__(
        self,
        client: Any,
        loop: asyncio.AbstractEventLoop,
        tokenizer: Any,
        setup: EngineSetup,
        pace: Pace,
        interruption: Interruption,
        namespace: str = "",
    ) -> None:
        self._client = client
        self._loop = loop
        self._not_blendable = setup.not_blendable
        self._pace = pace
        self._interruption = interruption
        self.model_name = setup.reference
        self.fingerprint = setup.settings.fingerprint
        self.namespace = namespace
        own = setup.settings.within(namespace)
        self.store = DiskStore(own.chunks_folder)
        self.exchange = own.open_exchange()
        self._ids = PromptIds(tokenizer, own.fingerprint, client.model_config.max_model_len)

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text as it stands in the middle of a prompt."""
        return self._ids.encode(text)

    def prefixes(self, prefix: str) -> Prefixes:
        """What chunks behind this text are computed behind."""
        return self._ids.prefixes(prefix)

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        """Compute and store chunks behind one prefix; see `ChunkEngine.compute`.

        Raises:
            StoreFull: no space left; what was stored stays.
            StoreError: the model cannot be blended, or the store not written to.
            Interrupted: the run is to stop; these chunks are not stored.
        """
        behind, batch = as_batch(records, self._not_blendable)
        self._call("begin_computing", behind, batch, self.namespace)
        while True:
            self._interruption.heed()
            begin_s = time.monotonic()
            took_s, stored = self._call("advance_computing", None if self._pace.is_busy() else IDLE_SLICE_S)
            if stored is not None:
                return stored_bytes(*stored)
            self._pace.rest(took_s, begin_s)

    def close(self) -> None:
        """Let what has to be sent to a remote be sent."""
        if self.exchange is not None:
            self.exchange.close()

    def _call(self, method: str, *args: Any) -> Any:
        """Call a method of the workers, between two engine steps; the first rank's reply."""
        reply = asyncio.run_coroutine_threadsafe(self._client.collective_rpc(method, args=args), self._loop)
        while True:
            try:
                return reply.result(HEED_EVERY_S)[0]
            except TimeoutError:
                if reply.done():
                    raise
                try:
                    self._interruption.heed()  # an engine that was stopped meanwhile never replies
                except Interrupted:
                    reply.cancel()
                    raise


class ServingEngines:
    """One for each namespace, made when it is first asked for; made on the server's event loop.

    Args:
        client, tokenizer, setup, pace, interruption: see `ServingEngine`.
    """

    def __init__(
        self, client: Any, tokenizer: Any, setup: EngineSetup, pace: Pace, interruption: Interruption
    ) -> None:
        loop = asyncio.get_running_loop()
        self._make = partial(ServingEngine, client, loop, tokenizer, setup, pace, interruption)
        self._engines: dict[str, ServingEngine] = {}
        self._making = Lock()

    def of(self, namespace: str) -> ServingEngine:
        """The engine of a namespace; any thread may ask.

        Raises:
            NotBlendable: the tokenizer has no fast form.
        """
        with self._making:
            if namespace not in self._engines:
                self._engines[namespace] = self._make(namespace)
            return self._engines[namespace]

    def close(self) -> None:
        """Let what has to be sent to a remote be sent."""
        for engine in self._engines.values():
            engine.close()


def is_busy(client: Any) -> bool:
    """Whether the engine has requests; any thread may ask."""
    return bool(client.get_num_unfinished_requests() > 0)


def paced(client: Any, share: float) -> Pace:
    """A pace by what a client's engine has to do."""
    return Pace(share, lambda: is_busy(client))
