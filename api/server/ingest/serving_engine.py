"""Chunk KV from the serving engine, in slices between its steps and within a share of its time."""

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
"""Length of a slice while no request is served: a new request waits at most this long for the engine."""

HEED_EVERY_S = 0.5
"""Time between two checks for an interruption while the engine has not replied."""

BATCH_TOKENS = 512
"""Tokens per batch: short chunks are computed together, then stored and reported."""


class ServingEngine:
    """Implements `precompute.engine.ChunkEngine` over a running server's engine.

    Its methods are called from one thread that is not the event loop's.

    Args:
        client: vLLM's `EngineClient`.
        loop: the client's.
        tokenizer: the served model's.
        setup: of the engine.
        namespace: tenant that owns the chunks, see `blend.chunks.namespace`.

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
        """Token ids of a piece of text in the middle of a prompt."""
        return self._ids.encode(text)

    def prefixes(self, prefix: str) -> Prefixes:
        """The contexts behind which chunks of this prefix are computed."""
        return self._ids.prefixes(prefix)

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        """Compute and store chunks behind one prefix; see `ChunkEngine.compute`.

        Raises:
            StoreFull: no space left; stored chunks stay.
            StoreError: the model cannot be blended, or the store cannot be written to.
            Interrupted: the run was interrupted; these chunks are not stored.
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
        """Flush what is being sent to a remote."""
        if self.exchange is not None:
            self.exchange.close()

    def _call(self, method: str, *args: Any) -> Any:
        """Call a method of the workers between two engine steps; returns the first rank's reply."""
        reply = asyncio.run_coroutine_threadsafe(self._client.collective_rpc(method, args=args), self._loop)
        while True:
            try:
                return reply.result(HEED_EVERY_S)[0]
            except TimeoutError:
                if reply.done():
                    raise
                try:
                    self._interruption.heed()  # a stopped engine never replies
                except Interrupted:
                    reply.cancel()
                    raise


class ServingEngines:
    """One `ServingEngine` for each namespace, created at first use; constructed on the server's event loop.

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
        """The engine of a namespace; thread-safe.

        Raises:
            NotBlendable: the tokenizer has no fast form.
        """
        with self._making:
            if namespace not in self._engines:
                self._engines[namespace] = self._make(namespace)
            return self._engines[namespace]

    def close(self) -> None:
        """Flush what is being sent to a remote."""
        for engine in self._engines.values():
            engine.close()


def is_busy(client: Any) -> bool:
    """Whether the engine has requests; thread-safe."""
    return bool(client.get_num_unfinished_requests() > 0)


def paced(client: Any, share: float) -> Pace:
    """A pace that follows the load of a client's engine."""
    return Pace(share, lambda: is_busy(client))
