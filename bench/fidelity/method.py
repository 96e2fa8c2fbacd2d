"""A way to come by a prompt's context KV, as one line of the laboratory's table."""

from dataclasses import dataclass

WRONG = "wrong"
"""A floor: the KV of wrong documents, in the places of the right ones."""

NONE = "none"
"""A floor: no context at all."""

FLOORS = (WRONG, NONE)


@dataclass(frozen=True, slots=True)
class Method:
    """How chunk KV was computed, what is recomputed of it, how the rest is corrected.

    Attributes:
        name: what users write and read.
        chunks: "alone", "prefixed" or another way to compute chunk KV; "wrong" and "none" are the floors.
        selector: name in `blend.select`; None when nothing but gaps is recomputed.
        corrector: name of the rule for the rows that are not recomputed, or None.
        ratio: recompute ratio, in [0, 1].
    """

    name: str
    chunks: str
    selector: str | None
    corrector: str | None
    ratio: float

    @property
    def is_floor(self) -> bool:
        """Whether it stands in the table only to show how bad things can be."""
        return self.chunks in FLOORS
