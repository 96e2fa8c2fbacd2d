"""The contract of the engines that are compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.cost import ModelShape
from bench.ttft.arm import Arm
from bench.ttft.prompts import Ids, Prompt
from blend.report.stats import BlendStats


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to be answered with a single token.

    Attributes:
        salt: requests of one salt find each other's blocks in the prefix cache; of different salts, never.
    """

    prompt: Prompt
    salt: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        ttft_ms: from submission to the first token.
        hit_tokens: prompt tokens in the engine's KV cache when the rest was prefilled, blended ones included.
        prefill_ms: of the rest, as the engine reports it, or None.
        stats: of the blend; with a fallback where nothing was blended.
    """

    ttft_ms: float
    hit_tokens: int
    prefill_ms: float | None
    stats: BlendStats


class Backend(Protocol):
    """Engines with the same model. Called from one thread, one call at a time.

    Attributes:
        model_name: what users read.
        version: of the engine.
        device: "cpu" or another.
        shape: what the model's FLOPs follow from.
        tokenizer: a Hugging Face fast tokenizer, the model's own.
        max_tokens: most tokens of a prompt with its answer.
        processes: ids of each engine's processes, by the engine's name.
    """

    model_name: str
    version: str
    device: str
    shape: ModelShape
    tokenizer: Any
    max_tokens: int
    processes: dict[str, tuple[int, ...]]

    def open(self, tiers: Sequence[str]) -> None:
        """Start the engines that are not running: the plain one, and a blending one for each kind of tier.

        Raises:
            EngineNotReady: an engine did not start.
        """

    def engine_of(self, arm: Arm, tier: str) -> str:
        """Name of the engine that answers an arm from a tier."""

    def store(self, prefix_ids: Ids, chunks: Sequence[Ids]) -> None:
        """Compute and store the KV of chunks behind a prefix, in every version that blends use.

        Raises:
            StoreError: it cannot be stored.
        """

    def ask(self, engine: str, arm: Arm, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests that arrive together; replies in their order.

        Raises:
            EngineNotReady: an engine ended a request without an answer.
        """

    def drop_file_cache(self) -> None:
        """Drop the store's files from the page cache, so that they are read from the disk."""

    def close(self) -> None:
        """Stop the engines; a second call does nothing."""
