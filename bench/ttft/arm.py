"""The arms of a comparison: which engine answers a prompt, and how."""

from dataclasses import dataclass

from blend.settings.defaults import DEFAULTS

PLAIN = "plain"
BLEND = "blend"
RATIOS = (0.05, 0.10, 0.15, 0.20, 0.30)


@dataclass(frozen=True, slots=True)
class Arm:
    """One line of the table.

    Attributes:
        name: what users read; name and ratio identify an arm.
        engine: `PLAIN`, stock vLLM, or `BLEND`.
        ratio: recompute ratio, or None where nothing is blended.
        selector: rule that picks what is recomputed, or None as `ratio`.
    """

    name: str
    engine: str
    ratio: float | None = None
    selector: str | None = None

    @property
    def label(self) -> str:
        """Name and ratio.

        >>> blend_at(0.05).label, FULL.label
        ('blend at 0.05', 'full')
        """
        return self.name if self.ratio is None else f"{self.name} at {self.ratio:g}"


FULL = Arm("full", PLAIN)
"""Full prefill in stock vLLM: every other arm is compared with it."""

AS_GIVEN = Arm("prefix caching, as given", PLAIN)
SORTED = Arm("prefix caching, sorted", PLAIN)
"""The strongest exact alternative: prompts with chunks in a fixed order share prefixes more often."""

REUSE = Arm("reuse", BLEND, 0.0, "first")
"""Nothing but gaps is recomputed; the selector reads no scores."""


def blend_at(ratio: float, name: str = "blend") -> Arm:
    """A blend as it is served, at a ratio."""
    return Arm(name, BLEND, ratio, DEFAULTS.selector)


def middle(ratios: tuple[float, ...]) -> float:
    """The ratio nearest to the default, which stands for the others.

    >>> middle((0.05, 0.2, 0.3))
    0.2
    """
    return min(ratios, key=lambda ratio: abs(ratio - DEFAULTS.recompute_ratio))
