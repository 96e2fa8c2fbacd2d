"""What is known of a request while it is served: its path, its namespace, and what the engine did for it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from blend.report.stats import BlendStats
from blend.vllm.request_params import KEY

NAMESPACE = "kvblend.namespace"
"""Key of a request's scope that holds the namespace of its API key; "" on a server without keys."""

namespace_in_force: ContextVar[str] = ContextVar("namespace_in_force", default="")
"""The same namespace for code that has no request at hand; tasks that a request starts inherit it."""

UNREPORTED = BlendStats(fallback="the engine reported nothing about this request")


def namespace_of(request: HTTPConnection | None) -> str:
    """The namespace of a request; "" on a server without keys, where all requests share one."""
    return "" if request is None else str(request.scope.get(NAMESPACE, ""))


def route_path(scope: Scope) -> str:
    """The path by which a request is routed, without the root path of the server.

    >>> route_path({"path": "/llm/v1/models", "root_path": "/llm"})
    '/v1/models'
    """
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def stats_in(params: Mapping[str, Any] | None) -> BlendStats:
    """Statistics in the `kv_transfer_params` of a finished output."""
    ours = (params or {}).get(KEY)
    return UNREPORTED if ours is None else BlendStats.from_json(ours)


@dataclass(slots=True)
class EngineCall:
    """One prompt that the engine answers for a request.

    Attributes:
        begun_ns, first_ns, ended_ns: start, first token and end in nanoseconds since 1970; None until then.
        completion_tokens: number of tokens by index of the choice.
        stats: of the blend; None until a choice has finished.
        cached_tokens: prompt tokens that came from a cache; recomputed ones do not count.
        context_ids: token ids of the context, where the request asked for details.
    """

    begun_ns: int
    is_delta: bool = False
    first_ns: int | None = None
    ended_ns: int | None = None
    prompt_tokens: int = 0
    completion_tokens: dict[int, int] = field(default_factory=dict)
    stats: BlendStats | None = None
    cached_tokens: int = 0
    context_ids: Sequence[int] = ()

    def see(self, output: Any) -> None:
        """Take an output of vLLM's engine into account; an output of a pooling model has no tokens."""
        self.prompt_tokens = len(getattr(output, "prompt_token_ids", None) or ())
        parts = output.outputs if isinstance(output.outputs, list) else ()
        for part in parts:
            before = self.completion_tokens.get(part.index, 0) if self.is_delta else 0
            self.completion_tokens[part.index] = before + len(part.token_ids)
        if self.first_ns is None and any(self.completion_tokens.values()):
            self.first_ns = time.time_ns()
        if any(part.finish_reason is not None for part in parts):
            self._finish(output)

    def _finish(self, output: Any) -> None:
        stats = self.stats = stats_in(output.kv_transfer_params)
        is_blended = stats.fallback is None
        self.cached_tokens = stats.counts.cached_tokens if is_blended else output.num_cached_tokens or 0
        if stats.tokens is not None:
            self.context_ids = (output.prompt_token_ids or ())[: stats.context_tokens]


@dataclass(slots=True)
class RequestRecord:
    """One request over HTTP.

    Attributes:
        begun_ns: when it arrived, in nanoseconds since 1970.
        retrieved_ns: start and end of retrieval, if the request retrieves.
        calls: prompts that the engine answers for it, in the order in which they were sent.
    """

    request_id: str
    begun_ns: int = field(default_factory=time.time_ns)
    retrieved_ns: tuple[int, int] | None = None
    calls: list[EngineCall] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(call.prompt_tokens for call in self.calls)

    @property
    def completion_tokens(self) -> int:
        """Tokens of all choices of all prompts."""
        return sum(sum(call.completion_tokens.values()) for call in self.calls)

    @property
    def ttft_ms(self) -> float | None:
        """Milliseconds from the request's arrival to the first token of any answer."""
        firsts = [call.first_ns for call in self.calls if call.first_ns is not None]
        return (min(firsts) - self.begun_ns) / 1e6 if firsts else None

    @property
    def stats(self) -> list[BlendStats]:
        """Statistics of the prompts that have been answered."""
        return [call.stats for call in self.calls if call.stats is not None]


record_in_force: ContextVar[RequestRecord | None] = ContextVar("record_in_force", default=None)


def calls_in_force() -> list[EngineCall]:
    """The engine's calls for the request in force; the list grows as calls begin."""
    record = record_in_force.get()
    return [] if record is None else record.calls


def begin_call(sampling_params: Any) -> EngineCall:
    """Add a call of the engine to the record of the request in force."""
    kind = getattr(getattr(sampling_params, "output_kind", None), "name", None)
    call = EngineCall(time.time_ns(), is_delta=kind == "DELTA")
    calls_in_force().append(call)
    return call


@contextmanager
def retrieving() -> Iterator[None]:
    """Measure the block as the retrieval of the request in force."""
    begun_ns = time.time_ns()
    yield
    if (record := record_in_force.get()) is not None:
        record.retrieved_ns = (begun_ns, time.time_ns())
