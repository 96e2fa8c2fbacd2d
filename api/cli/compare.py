"""One question, answered from blended KV and by full prefill in the same engine."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol
from uuid import uuid4

REPETITIONS = 3


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with its time to first token.

    Attributes:
        ttft_ms: from the request's arrival.
        blend: the `blend` object of the answer, see `api.server.chat.report`.
    """

    answer: str
    ttft_ms: float
    blend: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians over the repetitions of each arm; answers and figures are the last repetition's."""

    blended: Reply
    full: Reply

    @property
    def speedup(self) -> float:
        """How many times sooner the first token comes."""
        return self.full.ttft_ms / self.blended.ttft_ms


class Asker(Protocol):
    """Something that answers one question, from the same prompt each time."""

    def ask(self, *, blend: bool, cache_salt: str | None, show: Callable[[str], None]) -> Reply:
        """Answer once.

        Args:
            blend: False for a full prefill.
            cache_salt: prompts of different salts share nothing in the engine's prefix cache.
            show: called with each piece of text as it comes.
        """


def compare(asker: Asker) -> Comparison:
    """Both arms in turn, several times; no repetition finds anything of another in the prefix cache."""
    blended: list[Reply] = []
    full: list[Reply] = []
    for _ in range(REPETITIONS):
        for arm, blend in ((blended, True), (full, False)):
            arm.append(asker.ask(blend=blend, cache_salt=uuid4().hex, show=lambda piece: None))
    return Comparison(_summary(blended), _summary(full))


def _summary(replies: list[Reply]) -> Reply:
    return Reply(replies[-1].answer, median(reply.ttft_ms for reply in replies), replies[-1].blend)
