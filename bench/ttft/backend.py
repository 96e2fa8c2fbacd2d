"""What the bench asks of the engines that it compares."""

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
        salt: requests of one engine and salt find what others left in its pages; of different salts, never.
    """

    prompt: Prompt
    salt: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        ttft_ms: from submission to the first token.
        hit_tokens: prompt tokens that lay in the engine's pages when what was left was prefilled, those that
            a blend had put there included.
        prefill_ms: of what was left, as the engine itself says it, or None.
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
        """Start what is not running: the plain engine, and a blending one for each kind of tier.

        Raises:
            EngineNotReady: an engine did not start.
        """

    def engine_of(self, arm: Arm, tier: str) -> str:
        """Name of the engine that answers an arm from a tier."""

    def store(self, prefix_ids: Ids, chunks: Sequence[Ids]) -> None:
        """Compute and store the KV of chunks behind a prefix, in every version that blends want.

        Raises:
            StoreError: it cannot be stored.
        """

    def ask(self, engine: str, arm: Arm, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests that arrive together; replies in their order.

        Raises:
            EngineNotReady: an engine ended a request without an answer.
        """

    def drop_file_cache(self) -> None:
        """Let the operating system forget the store's files, so that they are read from the disk."""

    def close(self) -> None:
        """Stop the engines; a second call does nothing."""
