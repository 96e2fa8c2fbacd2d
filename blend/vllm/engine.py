"""The Python API: a store, a model, and answers decoded from blended KV.

    from blend import Engine

    with Engine() as engine:
        chunks = engine.precompute(["Paris is the capital of France.", "Rome is Italy's."])
        print(engine.generate("What is the capital of Italy?", chunks).text)
"""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from blend.chunk import ChunkRecord, make_record
from blend.config import DEFAULT_MODEL
from blend.errors import EngineNotReady, RequestError, StoreError, StoreFull
from blend.select import selector as check_selector
from blend.select.choose import check_ratio
from blend.stats import BlendStats
from blend.store.disk import DiskStore
from blend.text.frame import SEPARATOR, ChatFrame
from blend.text.segment import PieceTokenizer
from blend.vllm.request_params import KEY, BlendParams
from blend.vllm.setup import EngineSetup, prepare_engine, prepare_environment

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer.

    Attributes:
        ttft_ms: from the request's arrival to its first token.
        stats: what happened to the context.
        prefix_hit_tokens: prompt tokens that lay in the engine's pages already or were blended into them.
        first_logprobs: of the first token, by token id, where they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    ttft_ms: float
    stats: BlendStats
    prefix_hit_tokens: int = 0
    first_logprobs: dict[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer; the last one carries the whole answer."""

    text: str
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the engine, ready to be sent."""

    prompt_ids: tuple[int, ...]
    params: BlendParams
    max_tokens: int
    temperature: float
    cache_salt: str | None
    logprobs: int | None = None


class Engine:
    """A model in vLLM with a store of chunk KV. Use as a context manager, or call `close`.

    Args:
        model: name, local Hugging Face folder, GGUF file or hub id.
        store: folder of the store; the default one when None.
        self_check: compare blending with full prefill before the model's first blend (see `doctor`).
        overrides: any argument of vLLM's `AsyncEngineArgs`, such as `max_model_len`.

    Raises:
        ModelError: the model cannot be found, or vLLM is not a supported version.
        EngineNotReady: the engine did not start.
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, store: Path | str | None = None, *, self_check: bool = True, **overrides: Any
    ) -> None:
        prepare_environment()
        self.setup: EngineSetup = prepare_engine(model, Path(store) if store else None, **overrides)
        self.model_name = self.setup.model_name
        self.fingerprint = self.setup.settings.fingerprint
        self.store = DiskStore(self.setup.settings.chunks_folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kvblend-engine", daemon=True)
        self._thread.start()
        try:
            self._llm = self._run(_start(self.setup))
        except Exception as error:
            self._stop_loop()
            raise EngineNotReady(f"the engine did not start: {error}") from error
        self.tokenizer: Any = self._llm.get_tokenizer()
        self._pieces = PieceTokenizer(self.tokenizer)
        self._frame = ChatFrame(self.tokenizer)
        self.max_model_len: int = self._llm.vllm_config.model_config.max_model_len
        self.max_batch_tokens: int = self._llm.vllm_config.scheduler_config.max_num_batched_tokens
        if self_check and self.setup.not_blendable is None:
            from blend.vllm.gate import ensure_verdict

            ensure_verdict(self)

    # Offline: chunks into the store

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text as it stands in the middle of a prompt: nothing added around it."""
        return self._pieces.encode(text)

    def prefix_ids(self, prefix: str) -> tuple[int, ...]:
        """Ids of everything before the first chunk: the chat template's head with `prefix` in it."""
        head = self._frame.head(prefix)
        return tuple(self._pieces.encode_start(head, self._frame.add_special_tokens))

    def compute(self, records: Sequence[ChunkRecord]) -> int:
        """Compute and store the KV of chunks that stand behind one prefix; returns the bytes stored.

        Raises:
            StoreFull: no space left; what was stored stays.
        """
        prefixes = {record.prefix_ids for record in records}
        if len(prefixes) != 1:
            raise RequestError(f"got chunks behind {len(prefixes)} prefixes, expected one; call once for each")
        batch = [list(record.token_ids) for record in records]
        replies = self._run(
            self._llm.collective_rpc("compute_chunks", args=(list(prefixes.pop()), batch))
        )
        stored, problem = replies[0]
        if problem is not None:
            raise (StoreError if self.setup.not_blendable else StoreFull)(problem)
        return int(stored)

    def precompute(self, texts: Sequence[str], *, prefix: str = "") -> list[str]:
        """Compute and store the KV of texts, one chunk each; returns their chunk ids.

        Args:
            texts: pieces of documents, each short enough for a prompt.
            prefix: system prompt that the chunks will stand behind.
        """
        prefix_ids = self.prefix_ids(prefix)
        records = [make_record(self.fingerprint, prefix_ids, self.encode(text)) for text in texts]
        for text, record in zip(texts, records, strict=True):
            if not record.num_tokens:
                raise RequestError(f"got an empty chunk ({text!r}), expected text")
        missing = list({r.chunk_id: r for r in records if r.chunk_id not in self.store}.values())
        for batch in _batches(missing, self.max_batch_tokens):
            self.compute(batch)
        return [record.chunk_id for record in records]

    # Online: answers

    def prompt_ids(
        self, question: str, chunks: Sequence[str], *, prefix: str = ""
    ) -> tuple[int, ...]:
        """Ids of prefix, chunks, question: the prompt that `generate` answers.

        Args:
            chunks: chunk ids, or plain texts (computed cold where they are not known).
        """
        if not question.strip():
            raise RequestError("got an empty question, expected text")
        separator = self.encode(SEPARATOR)
        ids = list(self.prefix_ids(prefix))
        for number, chunk in enumerate(chunks):
            record = self.store.record(chunk)
            ids += separator if number else []
            ids += record.token_ids if record else self.encode(chunk)
        return (*ids, *self._pieces.encode_markup(self._frame.tail(question)))

    def generate(self, question: str, chunks: Sequence[str] = (), **options: Any) -> Answer:
        """Answer a question from chunks.

        Args:
            question: text.
            chunks: chunk ids from `precompute` (or plain texts), in the order they are to stand.
            options: `prefix`, `recompute_ratio` in [0, 1], `selector`, `blend` (False: full prefill),
                `max_tokens`, `temperature`, `cache_salt`.

        Raises:
            RequestError: an option is out of range, or the question is empty.
        """
        return self.submit(self.ask(question, chunks, **options))

    def stream(self, question: str, chunks: Sequence[str] = (), **options: Any) -> Iterator[Delta]:
        """Like `generate`, piece by piece; leaving the iterator aborts the request."""
        deltas = self.astream(question, chunks, **options)
        while True:
            try:
                yield self._run(anext(deltas))  # type: ignore[arg-type]
            except StopAsyncIteration:
                return
            except GeneratorExit:
                self._run(deltas.aclose())  # type: ignore[attr-defined]
                raise

    async def agenerate(self, question: str, chunks: Sequence[str] = (), **options: Any) -> Answer:
        """Like `generate`, for callers with an event loop of their own."""
        return await self.asubmit(self.ask(question, chunks, **options))

    async def astream(self, question: str, chunks: Sequence[str] = (), **options: Any) -> AsyncIterator[Delta]:
        """Like `stream`, for callers with an event loop of their own."""
        ask = self.ask(question, chunks, **options)
        here = asyncio.get_running_loop()
        if here is self._loop:
            async for delta in self._deltas(ask):
                yield delta
            return
        queue: asyncio.Queue[Delta | BaseException] = asyncio.Queue()

        async def pump() -> None:
            try:
                async for delta in self._deltas(ask):
                    here.call_soon_threadsafe(queue.put_nowait, delta)
            except Exception as error:  # handed to the caller, whose loop is another
                here.call_soon_threadsafe(queue.put_nowait, error)

        running = asyncio.run_coroutine_threadsafe(pump(), self._loop)
        try:
            while True:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if item.answer is not None:
                    return
        finally:
            running.cancel()  # the caller left early: the engine aborts the request

    def ask(
        self,
        question: str,
        chunks: Sequence[str] = (),
        *,
        prefix: str = "",
        recompute_ratio: float | None = None,
        selector: str | None = None,
        blend: bool = True,
        max_tokens: int = 256,
        temperature: float = 0.0,
        cache_salt: str | None = None,
    ) -> Ask:
        """The request that `generate` sends, checked.

        Raises:
            RequestError: an option is out of range, the question is empty, or the prompt too long.
        """
        if recompute_ratio is not None:
            check_ratio(recompute_ratio)
        if selector is not None:
            check_selector(selector)
        ids = self.prompt_ids(question, chunks, prefix=prefix)
        if len(ids) >= self.max_model_len:
            raise RequestError(
                f"got a prompt of {len(ids)} tokens, expected fewer than {self.max_model_len} (the model's "
                "length); use fewer or shorter chunks"
            )
        params = BlendParams(blend, recompute_ratio, selector)
        return Ask(ids, params, min(max_tokens, self.max_model_len - len(ids)), temperature, cache_salt)

    def submit(self, ask: Ask) -> Answer:
        """Answer one prepared request."""
        return self._run(self._answer(ask))

    async def asubmit(self, ask: Ask) -> Answer:
        """Like `submit`, for callers with an event loop of their own; cancelling it aborts the request."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._answer(ask), self._loop))

    async def _answer(self, ask: Ask) -> Answer:
        answer: Answer | None = None
        async for delta in self._deltas(ask):
            answer = delta.answer or answer
        if answer is None:
            raise EngineNotReady("the engine ended the request without an answer; see its log")
        return answer

    async def _deltas(self, ask: Ask) -> AsyncIterator[Delta]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            logprobs=ask.logprobs,
            output_kind=RequestOutputKind.CUMULATIVE,
            extra_args={"kv_transfer_params": ask.params.to_transfer()},
        )
        prompt: dict[str, Any] = {"prompt_token_ids": list(ask.prompt_ids)}
        if ask.cache_salt is not None:
            prompt["cache_salt"] = ask.cache_salt
        begin, ttft_ms, sent = time.perf_counter(), 0.0, 0
        outputs = self._llm.generate(prompt, params, request_id=uuid.uuid4().hex)
        try:
            async for output in outputs:
                ttft_ms = ttft_ms or (time.perf_counter() - begin) * 1e3
                text = output.outputs[0].text
                yield Delta(text[sent:], _answer_of(output, ttft_ms) if output.finished else None)
                sent = len(text)
        finally:
            await outputs.aclose()

    # Life

    def blends_in_flight(self) -> int:
        """Blends that the workers have begun and not finished."""
        return int(self._run(self._llm.collective_rpc("blends_in_flight"))[0])

    def reset_prefix_cache(self) -> bool:
        """Forget what the engine's pages hold; False when requests still hold some of them."""
        return bool(self._run(self._llm.reset_prefix_cache()))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._thread.is_alive():
            work.close()
            raise EngineNotReady("the engine is closed; make a new Engine")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def close(self) -> None:
        """Stop the engine; a second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._llm.shutdown)
            self._stop_loop()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


async def _start(setup: EngineSetup) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**setup.arguments))


def _answer_of(output: Any, ttft_ms: float) -> Answer:
    done = output.outputs[0]
    ours = (output.kv_transfer_params or {}).get(KEY)
    stats = BlendStats.from_json(ours) if ours else BlendStats(fallback="the model is served without blending")
    first = done.logprobs[0] if done.logprobs else None
    logprobs = {token: entry.logprob for token, entry in first.items()} if first else None
    return Answer(done.text, tuple(done.token_ids), done.finish_reason, ttft_ms, stats, output.num_cached_tokens or 0, logprobs)


def _batches(records: Sequence[ChunkRecord], max_tokens: int) -> Iterator[list[ChunkRecord]]:
    batch: list[ChunkRecord] = []
    for record in records:
        if batch and sum(r.num_tokens for r in batch) + record.num_tokens > max_tokens:
            yield batch
            batch = []
        batch.append(record)
    if batch:
        yield batch
