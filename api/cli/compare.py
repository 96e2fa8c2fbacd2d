"""One question, answered blended and by full prefill in the same engine, and where the two answers part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol
from uuid import uuid4

REPETITIONS = 3
LIKELIEST = 20
"""Tokens whose log-probabilities full prefill tells where two answers part: vLLM's own limit."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer.

    Attributes:
        key: equal for equal tokens: an id, or the token's bytes.
        likeliest: log-probabilities of the likeliest tokens at this place, by their keys, as far as known.
    """

    key: Any
    text: str
    likeliest: Mapping[Any, float]


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
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Parting:
    """Where a blended answer leaves that of full prefill, and how near the tie was.

    Attributes:
        token: number of the first token that differs, from 1 on.
        blended, full: that token in either answer.
        nats: by how much full prefill finds its own token likelier than the blended one; None when the
            blended one is not among its `LIKELIEST`.
    """

    token: int
    blended: str
    full: str
    nats: float | None

    def __str__(self) -> str:
        """One sentence.

        >>> print(Parting(7, " page", " block", 0.034))
        They part at token 7: ' page' or ' block'; full prefill finds its own choice 0.03 nats likelier
        """
        margin = f"finds its own choice {self.nats:.2f} nats likelier" if self.nats is not None else ""
        unlikely = f"does not count the other among its {LIKELIEST} likeliest tokens"
        return (
            f"They part at token {self.token}: {self.blended!r} or {self.full!r}; "
            f"full prefill {margin or unlikely}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Medians over the repetitions of each arm; answers and figures are the last repetition's.

    Attributes:
        parting: None when both answers are the same, as far as both go.
    """

    blended: Reply
    full: Reply
    parting: Parting | None = None

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

    def likeliest(self, full: Reply, place: int) -> Mapping[Any, float]:
        """Log-probabilities, by key, of full prefill's likeliest tokens at a place of its own answer.

        Args:
            place: number of tokens before it.
        """


def compare(asker: Asker) -> Comparison:
    """Both arms in turn, several times; no repetition finds anything of another in the prefix cache."""
    blended: list[Reply] = []
    full: list[Reply] = []
    for _ in range(REPETITIONS):
        for arm, blend in ((blended, True), (full, False)):
            arm.append(asker.ask(blend=blend, cache_salt=uuid4().hex, show=lambda piece: None))
    return Comparison(_summary(blended), _summary(full), _parting(asker, blended[-1], full[-1]))


def _summary(replies: Sequence[Reply]) -> Reply:
    return replace(replies[-1], ttft_ms=median(reply.ttft_ms for reply in replies))


def _parting(asker: Asker, blended: Reply, full: Reply) -> Parting | None:
    for place, (one, other) in enumerate(zip(blended.tokens, full.tokens, strict=False)):
        if one.key != other.key:
            likeliest = asker.likeliest(full, place)
            is_known = one.key in likeliest and other.key in likeliest
            nats = likeliest[other.key] - likeliest[one.key] if is_known else None
            return Parting(place + 1, one.text, other.text, nats)
    return None
