"""Whether a blend is the sooner way to the first token: predicted for each request from measured rates.

What is compared is what the two ways do not share: prefill computes every context row that the engine does
not hold; a blend looks with the suffix, fetches and realigns the cached rows, computes the selected ones, and
then takes a pass of its own for the suffix, which prefill does along with its last rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from blend.plan.plan import BlendPlan
from blend.plan.ratio import Ratio
from blend.select.base import Selector, layers_of, probe_tokens
from blend.settings.defaults import DEFAULTS

MIN_KNOWN_TOKENS = 16
MIN_KNOWN_SHARE = 0.1
"""Of a context, while nothing has been measured."""

MARGIN = 0.97
"""A blend must be predicted to take at most this much of the prefill's time."""

LEARNING = 0.25
"""Weight of the newest blend in what cached rows cost."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What the model's layers take, measured by the worker that runs them.

    Attributes:
        num_layers: L.
        layer_s: seconds that a layer takes whatever the rows.
        row_s: seconds more for each row of it.
        most_rows: rows of one pass of prefill, and of one slice of a blend.
    """

    num_layers: int
    layer_s: float
    row_s: float
    most_rows: tuple[int, int]

    def prefill_s(self, num_rows: int) -> float:
        """Seconds of all layers over rows that are prefilled."""
        return self.num_layers * self._layer_s(num_rows, self.most_rows[0])

    def recompute_s(self, num_rows: int) -> float:
        """Seconds of all layers over rows of a blend."""
        return self.num_layers * self._layer_s(num_rows, self.most_rows[1])

    def probe_s(self, num_tokens: int, num_layers: int) -> float:
        """Seconds of the question probe."""
        return num_layers * self._layer_s(num_tokens, num_tokens) if num_tokens else 0.0

    def _layer_s(self, num_rows: int, most_rows: int) -> float:
        return -(-num_rows // most_rows) * self.layer_s + num_rows * self.row_s


class Why(NamedTuple):
    """Why a context is better prefilled: because it was predicted, or because too little of it is known."""

    is_predicted: bool
    text: str


class Controller:
    """Chooses between prefill and blend; learns from what blends took. Not thread-safe."""

    def __init__(self) -> None:
        self._rates: Rates | None = None
        self._cached_row_s = 0.0

    def learn_rates(self, rates: Rates) -> None:
        """The worker measured its layers."""
        self._rates = rates

    def learn_cached(self, num_rows: int, seconds: float) -> None:
        """A blend took so long to load, realign and write its cached rows."""
        if num_rows:
            weight = LEARNING if self._cached_row_s else 1.0
            self._cached_row_s += weight * (seconds / num_rows - self._cached_row_s)

    def why_not(
        self, plan: BlendPlan, rule: Selector, ratio: Ratio, held: Callable[[], int] = lambda: 0
    ) -> Why | None:
        """Why a context is better prefilled, or None where a blend is sooner.

        Args:
            held: how many leading context tokens the engine holds as a full prefill left them; it is asked
                only where that decides.
        """
        known = _known_tokens(plan)
        if known < MIN_KNOWN_TOKENS:
            return Why(False, "no known chunk in the prompt")
        if self._rates is None:
            enough = known >= MIN_KNOWN_SHARE * plan.num_tokens
            return None if enough else Why(False, "too little of the prompt is known")
        num_held = held()
        prefill_s = self._rates.prefill_s(max(0, plan.num_tokens - num_held))
        blend_s = self._blend_s(self._rates, plan, rule, ratio)
        if blend_s <= MARGIN * prefill_s:
            return None
        behind = f" behind the {num_held} tokens that the engine holds" if num_held else ""
        text = f"full prefill is predicted to be sooner: {prefill_s * 1e3:.0f} ms{behind}, a blend"
        return Why(True, f"{text} {blend_s * 1e3:.0f} ms")

    def _blend_s(self, rates: Rates, plan: BlendPlan, rule: Selector, ratio: Ratio) -> float:
        cold = sum(stop - start for start, stop in plan.gaps)
        share = DEFAULTS.recompute_ratio if isinstance(ratio, str) else ratio
        selected = max(cold, round(share * plan.num_tokens))
        seconds = rates.recompute_s(selected) + self._cached_row_s * (plan.num_tokens - cold)
        if rule.question_layers is not None:
            deepest = layers_of(rule.question_layers, rates.num_layers)[-1] + 1
            seconds += rates.probe_s(len(probe_tokens(plan)[0]), deepest)
        if rule.probe_layer is not None:
            seconds += rates.prefill_s(plan.num_tokens) * (rule.probe_layer + 1) / rates.num_layers
        # The suffix's own pass, and the steps that a blend begins and ends in.
        return seconds + 2 * rates.num_layers * rates.layer_s


def _known_tokens(plan: BlendPlan) -> int:
    """Tokens of chunks, without an exact beginning: a prefix alone is left to the engine's prefix caching,
    which shares it between all requests."""
    return sum(span.record.num_tokens for span in plan.spans if span.start > 0 or not span.exact)
