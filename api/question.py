"""A question to a collection."""

from dataclasses import dataclass

from blend.ratio import Ratio


@dataclass(frozen=True, slots=True)
class Question:
    """What `kvblend ask` was asked.

    Attributes:
        recompute_ratio, selector: None takes the engine's default.
    """

    text: str
    collection: str
    top_k: int
    recompute_ratio: Ratio | None
    selector: str | None
    max_tokens: int
