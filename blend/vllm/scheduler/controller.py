"""Predicts for each request whether a blend or a full prefill reaches the first token sooner.

The prediction compares the work that the two ways do not share. A prefill computes every context row that the
engine does not hold. A blend runs the suffix as probe, reads and realigns the cached rows, computes the
selected rows, and then needs a separate pass for the suffix, which a prefill runs with its last rows.
"""

from collections.abc import Callable

from blend.plan.plan import BlendPlan
from blend.plan.ratio import Ratio
from blend.select.base import Selector, layers_of, probe_tokens
from blend.settings.defaults import DEFAULTS
from blend.vllm.messages import PrefillReason, Rates, Reason

MIN_KNOWN_TOKENS = 16
MIN_KNOWN_SHARE = 0.1
"""Minimum fraction of context tokens that must be known, used until rates are measured."""

MARGIN = 0.97
"""A blend must be predicted to take at most this fraction of the prefill's time."""

LEARNING = 0.25
"""Weight of the newest blend in the cost of cached rows."""


def too_little_known(plan: BlendPlan) -> PrefillReason | None:
    """Why a blend is not worth it, whatever layers and stores cost, or None."""
    known = _known_tokens(plan)
    if known < MIN_KNOWN_TOKENS:
        return PrefillReason(Reason.NOTHING_KNOWN, "no known chunk in the prompt")
    if known < MIN_KNOWN_SHARE * plan.num_tokens:
        return PrefillReason(Reason.NOTHING_KNOWN, "too little of the prompt is known")
    return None


class Controller:
    """Chooses between prefill and blend; learns from what blends took. Not thread-safe."""

    def __init__(self) -> None:
        self._rates: Rates | None = None
        self._cached_row_s = 0.0

    def learn_rates(self, rates: Rates) -> None:
        """Use rates that the worker measured."""
        self._rates = rates

    def learn_cached(self, num_rows: int, seconds: float) -> None:
        """A blend took this long to read, realign and write its cached rows."""
        if num_rows:
            weight = LEARNING if self._cached_row_s else 1.0
            self._cached_row_s += weight * (seconds / num_rows - self._cached_row_s)

    def reason_to_prefill(
        self, plan: BlendPlan, rule: Selector, ratio: Ratio, held: Callable[[], int] = lambda: 0
    ) -> PrefillReason | None:
        """Why a context is better prefilled, or None when a blend is sooner.

        Args:
            held: returns how many leading context tokens the engine holds from a full prefill; called only
                when that decides.
        """
        if self._rates is None or _known_tokens(plan) < MIN_KNOWN_TOKENS:
            return too_little_known(plan)
        num_held = held()
        prefill_s = self._rates.prefill_s(max(0, plan.num_tokens - num_held))
        blend_s = self._blend_s(self._rates, plan, rule, ratio)
        if blend_s <= MARGIN * prefill_s:
            return None
        behind = f" behind the {num_held} tokens that the engine holds" if num_held else ""
        text = f"full prefill is predicted to be sooner: {prefill_s * 1e3:.0f} ms{behind}, a blend"
        return PrefillReason(Reason.PREFILL_SOONER, f"{text} {blend_s * 1e3:.0f} ms")

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
        # The suffix's separate pass, and the steps in which a blend begins and ends.
        return seconds + 2 * rates.num_layers * rates.layer_s


def _known_tokens(plan: BlendPlan) -> int:
    """Tokens of chunks, except an exact chunk at the very start: a prefix alone is left to the engine's
    prefix caching, which shares it between all requests."""
    return sum(span.record.num_tokens for span in plan.spans if span.start > 0 or not span.exact)
