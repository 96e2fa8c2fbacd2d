"""vLLM's asynchronous engine on its own thread and event loop, for synchronous and asynchronous callers."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from blend.errors import EngineNotReady, RequestError
from blend.vllm.engine.answer import Answer, Ask, Delta, answer_of
from blend.vllm.engine.setup import FORCING
from blend.vllm.request_params import FORCED

T = TypeVar("T")


class EngineThread:
    """A running engine. Call its methods from any thread, the asynchronous ones from any event loop.

    Args:
        arguments: keyword arguments of vLLM's `AsyncEngineArgs`.

    Raises:
        EngineNotReady: the engine did not start.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kvblend-engine", daemon=True)
        self._thread.start()
        try:
            self.llm = self.run(_start(arguments))
        except Exception as error:
            self._stop_loop()
            raise EngineNotReady(f"the engine did not start: {error}") from error

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work on the engine's loop.

        Raises:
            EngineNotReady: the engine is closed.
        """
        return self._submit(work).result()

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """Like `run`, from another event loop; cancelling it cancels the work."""
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if not self._thread.is_alive():
            work.close()
            raise EngineNotReady("the engine is closed; make a new Engine")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def rpc(self, method: str, *args: Any) -> Any:
        """Call a method of the workers; returns the first rank's reply."""
        return self.run(self.llm.collective_rpc(method, args=args))[0]

    async def answer(self, ask: Ask) -> Answer:
        """Answer a request; runs on the engine's own loop.

        Raises:
            EngineNotReady: the engine ended the request without an answer.
        """
        answer: Answer | None = None
        async for delta in self.deltas(ask):
            answer = delta.answer or answer
        if answer is None:
            raise EngineNotReady("the engine ended the request without an answer; see its log")
        return answer

    async def deltas(self, ask: Ask) -> AsyncGenerator[Delta, None]:
        """Answer a request piece by piece; runs on the engine's own loop, closing it aborts the request.

        Raises:
            RequestError: the answer is forced, and the engine was started without forcing.
        """
        if ask.forced_ids and FORCING not in (self.llm.vllm_config.model_config.logits_processors or ()):
            raise RequestError(
                f"got a forced answer, expected an engine with logits_processors=[{FORCING!r}]"
            )
        prompt: dict[str, Any] = {"prompt_token_ids": list(ask.prompt_ids)}
        if ask.cache_salt is not None:
            prompt["cache_salt"] = ask.cache_salt
        begin, ttft_ms, sent = time.perf_counter(), 0.0, 0
        outputs = self.llm.generate(prompt, _sampling(ask), request_id=uuid.uuid4().hex)
        try:
            async for output in outputs:
                ttft_ms = ttft_ms or (time.perf_counter() - begin) * 1e3
                text = output.outputs[0].text
                done = output.finished
                answer = answer_of(output, ttft_ms, all_logprobs=ask.all_logprobs) if done else None
                yield Delta(text[sent:], answer)
                sent = len(text)
        finally:
            await outputs.aclose()

    async def elsewhere(self, ask: Ask) -> AsyncGenerator[Delta, None]:
        """Like `deltas`, from another event loop."""
        here = asyncio.get_running_loop()
        queue: asyncio.Queue[Delta | Exception] = asyncio.Queue()

        async def pump() -> None:
            end: Exception = EngineNotReady("the engine ended the request without an answer; see its log")
            try:
                async for delta in self.deltas(ask):
                    here.call_soon_threadsafe(queue.put_nowait, delta)
            except Exception as error:  # raised below, in the caller's event loop
                end = error
            finally:  # also when the engine is closed: otherwise the caller would wait for ever
                here.call_soon_threadsafe(queue.put_nowait, end)

        running = self._submit(pump())
        try:
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.answer is not None:
                    return
        finally:
            running.cancel()  # if the caller left early, the engine aborts the request

    def close(self) -> None:
        """Stop the engine; a second call does nothing."""
        if self._thread.is_alive():
            self.run(self._shut_down())
            self._stop_loop()
            del self.llm  # otherwise vLLM shuts it down again while the interpreter exits

    async def _shut_down(self) -> None:
        self.llm.shutdown()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _sampling(ask: Ask) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    extra: dict[str, Any] = {"kv_transfer_params": ask.params.to_transfer()}
    if ask.forced_ids:
        extra[FORCED] = list(ask.forced_ids)
    return SamplingParams(
        max_tokens=len(ask.forced_ids) if ask.forced_ids else ask.max_tokens,
        ignore_eos=bool(ask.forced_ids),
        temperature=ask.temperature,
        logprobs=-1 if ask.all_logprobs else ask.logprobs,
        flat_logprobs=ask.all_logprobs,  # for a whole vocabulary eight times faster than one object per token
        detokenize=not ask.all_logprobs,
        output_kind=RequestOutputKind.CUMULATIVE,
        extra_args=extra,
    )


async def _start(arguments: dict[str, Any]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs

    from blend.vllm.engine.start import start_engine

    return start_engine(AsyncEngineArgs(**arguments))
