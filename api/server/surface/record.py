"""What is known of a request while it is served: for the line that the log has of it, and for its trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from api.server.chat.report import stats_of
from blend.report.stats import BlendStats


@dataclass(slots=True)
class EngineCall:
    """One prompt that a request had the engine answer.

    Attributes:
        begun_ns, first_ns, ended_ns: since the epoch; None for what has not come to pass.
        completion_tokens: by choice.
        stats: of a call that has ended.
    """

    begun_ns: int
    is_delta: bool
    first_ns: int | None = None
    ended_ns: int | None = None
    prompt_tokens: int = 0
    completion_tokens: dict[int, int] = field(default_factory=dict)
    stats: BlendStats | None = None

    def see(self, output: Any) -> None:
        """Take an output of vLLM's engine into account; what a pooling model answers has no tokens."""
        self.prompt_tokens = len(getattr(output, "prompt_token_ids", None) or ())
        parts = output.outputs if isinstance(output.outputs, list) else ()
        for part in parts:
            before = self.completion_tokens.get(part.index, 0) if self.is_delta else 0
            self.completion_tokens[part.index] = before + len(part.token_ids)
        if self.first_ns is None and any(self.completion_tokens.values()):
            self.first_ns = time.time_ns()
        if any(part.finish_reason is not None for part in parts):
            self.stats = stats_of(output)


@dataclass(slots=True)
class RequestRecord:
    """One request over HTTP.

    Attributes:
        begun_ns: when it came, since the epoch.
        retrieved_ns: when retrieval began and ended, if there was any.
    """

    request_id: str
    begun_ns: int = field(default_factory=time.time_ns)
    retrieved_ns: tuple[int, int] | None = None
    calls: list[EngineCall] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Of all its prompts."""
        return sum(call.prompt_tokens for call in self.calls)

    @property
    def completion_tokens(self) -> int:
        """Of all choices of all its prompts."""
        return sum(sum(call.completion_tokens.values()) for call in self.calls)

    @property
    def ttft_ms(self) -> float | None:
        """From the request's arrival to the first token of any answer."""
        firsts = [call.first_ns for call in self.calls if call.first_ns is not None]
        return (min(firsts) - self.begun_ns) / 1e6 if firsts else None

    @property
    def stats(self) -> list[BlendStats]:
        """Of the prompts that were answered."""
        return [call.stats for call in self.calls if call.stats is not None]


record_in_force: ContextVar[RequestRecord | None] = ContextVar("record_in_force", default=None)


def begin_call(sampling_params: Any) -> EngineCall:
    """A call of the engine on behalf of the request in force, noted in its record."""
    kind = getattr(getattr(sampling_params, "output_kind", None), "name", None)
    call = EngineCall(time.time_ns(), is_delta=kind == "DELTA")
    if (record := record_in_force.get()) is not None:
        record.calls.append(call)
    return call


@contextmanager
def retrieving() -> Iterator[None]:
    """Note in the record of the request in force that what runs inside is its retrieval."""
    begun_ns = time.time_ns()
    yield
    if (record := record_in_force.get()) is not None:
        record.retrieved_ns = (begun_ns, time.time_ns())
