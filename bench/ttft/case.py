"""The prompts of a measurement: their size, the share of known chunks, and the tier these come from."""

from dataclasses import dataclass

from blend.errors import RequestError

MEMORY = "memory"
DISK_WARM = "disk-warm"
DISK_COLD = "disk-cold"
DEVICE = "device"
REDIS = "redis"
TIERS = (MEMORY, DISK_WARM, DISK_COLD)
"""Default points of a sweep. `DISK_WARM`: no memory tier, but the files are in the page cache; `DISK_COLD`:
neither."""

ALL_TIERS = (*TIERS, DEVICE, REDIS)
"""`REDIS`: nothing is cached on this side of the server."""

HELD = (MEMORY, DEVICE)
"""Tiers that cache chunks on use, and so have to be filled before they are measured."""


@dataclass(frozen=True, slots=True)
class Case:
    """Prompts of one kind.

    Attributes:
        chunks: how many stand in a prompt.
        tokens: of each chunk.
        question_tokens: of the question's own text; what the chat template puts around it comes on top.
        known: share of the chunks whose KV is stored, in [0, 1].
        tier: where stored chunks come from, one of `ALL_TIERS`.
        at_once: requests that arrive together.
    """

    chunks: int = 6
    tokens: int = 512
    question_tokens: int = 30
    known: float = 1.0
    tier: str = MEMORY
    at_once: int = 1

    @property
    def chunk_tokens(self) -> int:
        """Tokens of all chunks of a prompt."""
        return self.chunks * self.tokens

    @property
    def known_chunks(self) -> int:
        """Chunks of a prompt whose KV is stored."""
        return round(self.known * self.chunks)


def check_tier(tier: str) -> str:
    """A tier that can be measured.

    Raises:
        RequestError: there is no such tier.
    """
    if tier not in ALL_TIERS:
        raise RequestError(f"got tier {tier!r}, expected one of: {', '.join(ALL_TIERS)}")
    return tier
