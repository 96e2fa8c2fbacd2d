"""The Python API: a store, a model, and answers decoded from blended KV.

::

    from blend import Engine

    with Engine() as engine:
        chunks = engine.precompute(["Paris is the capital of France.", "Rome is Italy's."])
        print(engine.generate("What is the capital of Italy?", chunks).text)
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from blend.chunks.chunk import ChunkRecord, computable_batches
from blend.chunks.namespace import check_namespace, salted
from blend.chunks.versions import Prefixes, to_store
from blend.errors import RequestError
from blend.plan.ratio import Ratio
from blend.select import check_rule
from blend.settings.defaults import DEFAULT_MODEL, DEFAULTS
from blend.store.config import StoreConfig
from blend.store.tiers.disk import DiskStore
from blend.text.frame import SEPARATOR
from blend.text.prompt_ids import PromptIds
from blend.vllm.engine.answer import Answer, Ask, Delta
from blend.vllm.engine.setup import EngineSetup, prepare_engine, prepare_environment
from blend.vllm.engine.thread import EngineThread
from blend.vllm.gate.gate import ensure_verdict
from blend.vllm.request_params import BlendParams
from blend.vllm.worker.chunk_calls import as_batch, stored_bytes


class Engine:
    """A model in vLLM with a store of chunk KV. Use as a context manager, or call `close`.

    Args:
        model: name, local Hugging Face folder, GGUF file or hub id.
        store: folder of the store, or all its settings; None: as the settings say.
        namespace: whose chunks are stored, and read beside the shared ones; "" for none. See
            `blend.chunks.namespace`.
        self_check: compare blending with full prefill before the model's first blend.
        overrides: see `blend.vllm.engine.setup.prepare_engine`: `recompute_ratio`, `sharing`, `memory_bytes`,
            `codec` and their like, and any argument of vLLM's `AsyncEngineArgs`, such as `max_model_len`.

    Attributes:
        model_name: what `model` takes to find the model again.
        fingerprint: digest of the model; part of every chunk id.
        namespace: as passed in.
        store: the namespace's chunks of this model on the disk, without those of a remote.
        exchange: sends chunks to the remote and fetches them, or None without a remote.
        max_model_len: maximum number of tokens of a prompt with its answer.
        max_batch_tokens: number of tokens per `compute` call that is efficient.
        device: kind of device that the model runs on, "cpu" for instance.

    Raises:
        ModelError: the model cannot be found, or vLLM is not a supported version.
        EngineNotReady: the engine did not start.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        store: Path | str | StoreConfig | None = None,
        *,
        namespace: str = "",
        self_check: bool = True,
        **overrides: Any,
    ) -> None:
        self.namespace = check_namespace(namespace)
        prepare_environment()
        self.setup: EngineSetup = prepare_engine(model, store, **overrides)
        self.model_name = self.setup.reference
        self.fingerprint = self.setup.settings.fingerprint
        own = self.setup.settings.within(namespace)
        self._scope = own.fingerprint
        self.store, self._common = (DiskStore(s.chunks_folder) for s in (own, self.setup.settings))
        self.exchange = own.open_exchange()
        self._thread = EngineThread(self.setup.arguments)
        try:
            self._make_ready(self_check)
        except BaseException:
            self.close()
            raise

    def _make_ready(self, self_check: bool) -> None:
        llm = self._thread.llm
        self.tokenizer: Any = llm.get_tokenizer()
        self.max_model_len: int = llm.vllm_config.model_config.max_model_len
        self.max_batch_tokens: int = llm.vllm_config.scheduler_config.max_num_batched_tokens
        self._ids = PromptIds(self.tokenizer, self._scope, self.max_model_len)
        self.device: str = llm.vllm_config.device_config.device_type
        if self_check and self.setup.not_blendable is None:
            ensure_verdict(self)

    # Offline: chunks into the store

    def encode(self, text: str) -> list[int]:
        """Ids of a text in the middle of a prompt, with nothing added around it."""
        return self._ids.encode(text)

    def prefix_ids(self, prefix: str) -> tuple[int, ...]:
        """Ids of everything before the first chunk: the chat template's head with `prefix` in it."""
        return self._ids.prefix_ids(prefix)

    def prefixes(self, prefix: str) -> Prefixes:
        """What the chunks of a collection are computed behind: its prefix, with and without the lead."""
        return self._ids.prefixes(prefix)

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        """Compute and store the KV of chunks behind one prefix; returns the number of bytes stored.

        The prefix's own KV is stored as well if it is missing, and not counted.

        Raises:
            StoreFull: no space left; chunks stored before stay.
        """
        behind, batch = as_batch(records, self.setup.not_blendable)
        return stored_bytes(*self._thread.rpc("compute_chunks", behind, batch, self.namespace))

    def precompute(self, texts: Sequence[str], *, prefix: str = "") -> list[str]:
        """Compute and store the KV of texts, one chunk each; returns their chunk ids.

        A chunk is stored in two versions, and in a third if it shares text with another of these chunks, see
        `blend.chunks.versions`. The chunk id is the plain version's. With a remote, chunks that it has are
        fetched instead of computed, and the others are sent to it in the background.

        Args:
            texts: pieces of documents, each short enough for a prompt.
            prefix: system prompt that the chunks will stand behind.

        Raises:
            RequestError: a text is empty.
            StoreFull: no space left; chunks stored before stay.
        """
        kinds = self._to_store(texts, prefix)
        for text, record in zip(texts, kinds[0], strict=True):
            if not record.num_tokens:
                raise RequestError(f"got an empty chunk ({text!r}), expected text")
        stored = [record.chunk_id for records in kinds for record in records]
        if self.exchange is not None:
            self.exchange.fetch(stored)
        for records in kinds:
            self._compute_missing(records)
        if self.exchange is not None:
            self.exchange.send(stored)
        return [record.chunk_id for record in kinds[0]]

    def _to_store(self, texts: Sequence[str], prefix: str) -> tuple[list[ChunkRecord], ...]:
        return to_store(self.prefixes(prefix), [self.encode(text) for text in texts])

    def _compute_missing(self, records: Iterable[ChunkRecord]) -> None:
        missing = (record for record in records if record.chunk_id not in self.store)
        for batch in computable_batches(missing, self.max_batch_tokens):
            self.compute(batch)

    def records(self, texts: Sequence[str], prefix: str) -> list[ChunkRecord]:
        """Records of everything that `precompute` stores: the versions of texts, and the prefixes they
        need."""
        plain, led, echoes = self._to_store(texts, prefix)
        heads = self.prefixes(prefix).heads(record.num_tokens for record in led)
        return [*heads, *plain, *led, *echoes]

    # Online: answers

    def generate(self, question: str, chunks: Sequence[str] = (), **options: Any) -> Answer:
        """Answer a question from chunks.

        Args:
            question: text.
            chunks: chunk ids from `precompute` (or plain texts), in the order of the prompt.
            options: `prefix`, `recompute_ratio` in [0, 1] or "auto", `selector`, `blend` (False: full
                prefill), `max_tokens`, `temperature`, `cache_salt`.

        Raises:
            RequestError: an option is out of range, the question is empty, or the prompt too long.
        """
        return self.submit(self.ask(question, chunks, **options))

    async def agenerate(self, question: str, chunks: Sequence[str] = (), **options: Any) -> Answer:
        """Like `generate`, for asynchronous callers."""
        return await self.asubmit(self.ask(question, chunks, **options))

    def stream(self, question: str, chunks: Sequence[str] = (), **options: Any) -> Iterator[Delta]:
        """Like `generate`, piece by piece; closing the iterator aborts the request."""
        deltas = self._thread.deltas(self.ask(question, chunks, **options))
        try:
            while (delta := self._thread.run(_next(deltas))) is not None:
                yield delta
        finally:
            self._thread.run(deltas.aclose())

    async def astream(
        self, question: str, chunks: Sequence[str] = (), **options: Any
    ) -> AsyncGenerator[Delta, None]:
        """Like `stream`, for asynchronous callers."""
        async for delta in self._thread.elsewhere(self.ask(question, chunks, **options)):
            yield delta

    def ask(
        self,
        question: str,
        chunks: Sequence[str] = (),
        *,
        prefix: str = "",
        recompute_ratio: Ratio | None = None,
        selector: str | None = None,
        blend: bool = True,
        max_tokens: int = 256,
        temperature: float = 0.0,
        cache_salt: str | None = None,
    ) -> Ask:
        """The request that `generate` sends, after all checks.

        Raises:
            RequestError: an option is out of range, the question is empty, or the prompt too long.
        """
        settings = self.setup.settings
        ratio = recompute_ratio if recompute_ratio is not None else settings.recompute_ratio
        check_rule(DEFAULTS.recompute_ratio if ratio is None else ratio, selector or settings.selector)
        ids = self.prompt_ids(question, chunks, prefix=prefix)
        if len(ids) >= self.max_model_len:
            raise RequestError(
                f"got a prompt of {len(ids)} tokens, expected fewer than {self.max_model_len} (the model's "
                "length); use fewer or shorter chunks"
            )
        params = BlendParams(blend, recompute_ratio, selector, namespace=self.namespace)
        salt = salted(self.namespace, cache_salt)
        return Ask(ids, params, min(max_tokens, self.max_model_len - len(ids)), temperature, salt)

    def prompt_ids(self, question: str, chunks: Sequence[str], *, prefix: str = "") -> tuple[int, ...]:
        """Ids of prefix, chunks, question: the prompt that `generate` answers.

        Args:
            chunks: chunk ids, or plain texts (computed cold if they are unknown).
        """
        if not question.strip():
            raise RequestError("got an empty question, expected text")
        separator = self.encode(SEPARATOR)
        ids = list(self.prefix_ids(prefix))
        for number, chunk in enumerate(chunks):
            record = self._record(chunk)
            ids += separator if number else []
            ids += record.token_ids if record else self.encode(chunk)
        return (*ids, *self._ids.tail_ids(question))

    def _record(self, chunk: str) -> ChunkRecord | None:
        found = self.store.record(chunk) or self._common.record(chunk)
        if found is None and self.exchange is not None:
            found = self.exchange.remote.record(chunk)
        return found

    def submit(self, ask: Ask) -> Answer:
        """Answer a request made by `ask`."""
        return self._thread.run(self._thread.answer(ask))

    async def asubmit(self, ask: Ask) -> Answer:
        """Like `submit`, for asynchronous callers; cancelling it aborts the request."""
        return await self._thread.arun(self._thread.answer(ask))

    # Life cycle

    def check_model(self) -> str | None:
        """Why the model cannot be blended, found in its layers, or None."""
        found = self._thread.rpc("check_model")
        return None if found is None else str(found)

    def blends_in_flight(self) -> int:
        """Number of blends that the workers have begun and not finished."""
        return int(self._thread.rpc("blends_in_flight"))

    def reset_prefix_cache(self) -> bool:
        """Empty the engine's prefix cache; returns False while requests still use some of its blocks."""
        return bool(self._thread.run(self._thread.llm.reset_prefix_cache()))

    def close(self) -> None:
        """Send what is queued for the remote, then stop the engine; a second call does nothing."""
        exchange, self.exchange = self.exchange, None
        try:
            if exchange is not None:
                exchange.close()
        finally:
            self._thread.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


async def _next(deltas: AsyncGenerator[Delta, None]) -> Delta | None:
    return await anext(deltas, None)
