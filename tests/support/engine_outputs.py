"""Outputs with the fields of vLLM's that the HTTP side reads."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Kind(Enum):
    """As vLLM's `RequestOutputKind`."""

    CUMULATIVE = 0
    DELTA = 1


@dataclass
class Params:
    """As much of vLLM's `SamplingParams` as is read."""

    output_kind: Kind = Kind.CUMULATIVE
    extra_args: dict[str, Any] | None = None


DELTA = Params(Kind.DELTA)


@dataclass
class Part:
    """As vLLM's `CompletionOutput`."""

    index: int
    token_ids: list[int]
    finish_reason: str | None = None


@dataclass
class Output:
    """As vLLM's `RequestOutput`."""

    prompt_token_ids: list[int] = field(default_factory=list)
    outputs: list[Part] = field(default_factory=list)
    kv_transfer_params: dict[str, Any] | None = None
    num_cached_tokens: int | None = None
