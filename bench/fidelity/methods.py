"""The laboratory's methods by name: how chunk KV is computed, and which rule picks what is recomputed.

One line a method, with the paper it comes from. The run says at which ratios a method is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from blend.errors import RequestError
from blend.plan.ratio import parse_ratio

ALONE, PREFIXED, LED, ECHOED = "alone", "prefixed", "led", "echoed"
"""Chunk KV computed behind nothing, behind the prefix, or behind the prefix and the lead; `ECHOED` adds
echoes, for text that a prompt holds twice."""
WRONG = "wrong"
"""A floor: the KV of wrong documents, in the places of the right ones."""
NONE = "none"
"""A floor: no context at all."""
FLOORS = (WRONG, NONE)
"""Methods that only show how bad things can be."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to come by a prompt's context KV: one line of the table.

    Attributes:
        name: what users write and read.
        chunks: how chunk KV is computed, or one of the floors.
        selector: name in `blend.select`; None when nothing but gaps is recomputed.
        ratio: recompute ratio, in [0, 1].
    """

    name: str
    chunks: str
    selector: str | None
    ratio: float


_RULES: dict[str, tuple[str, str]] = {
    # https://arxiv.org/abs/2405.16444, as published: chunks alone, value deviation at layer 1
    "cacheblend": (ALONE, "deviation-values"),
    "cacheblend-keys": (ALONE, "deviation-keys"),
    "cacheblend-both": (ALONE, "deviation"),
    # https://arxiv.org/abs/2410.15332
    "epic": (ALONE, "first"),
    # https://arxiv.org/abs/2602.02579
    "prophetkv": (ALONE, "question"),
    # https://arxiv.org/abs/2603.05353
    "infoflow": (ALONE, "question-late"),
    "prefixed-deviation": (PREFIXED, "deviation-values"),
    "prefixed-question-deviation": (PREFIXED, "question-deviation"),
    "prefixed-question-late": (PREFIXED, "question-late"),
    "led-deviation": (LED, "deviation-values"),
    "led-question": (LED, "question"),
    "led-last-token": (LED, "last-token"),
    "led-question-late": (LED, "question-late"),
    "led-question-deviation": (LED, "question-deviation"),
    "led-oracle": (LED, "oracle"),
    "echoed-question-late": (ECHOED, "question-late"),
    "random": (LED, "random"),
}
_REUSE = {"reuse-alone": ALONE, "reuse-prefixed": PREFIXED, "reuse-led": LED, "reuse-echoed": ECHOED}
_FLOORS = {"wrong-document": WRONG, "no-context": NONE}
_DEFAULT = (
    "reuse-alone",
    "reuse-prefixed",
    "reuse-led",
    "cacheblend",
    "epic",
    "prophetkv",
    "infoflow",
    "prefixed-question-deviation",
    "led-deviation",
    "led-question",
    "led-question-late",
    "led-oracle",
    "random",
)


def methods(names: Sequence[str] | None, ratios: Sequence[float]) -> list[Method]:
    """Methods at each ratio; plain reuse and the floors come once, at ratio 0.

    Args:
        names: None takes the default set; "name@0.15" is measured at that ratio alone. The floors are
            always there.
        ratios: recompute ratios, in [0, 1].

    Raises:
        RequestError: a name is not known, or what stands behind its "@" is no number in [0, 1].

    >>> [(m.name, m.ratio) for m in methods(["random", "cacheblend@0.15"], [0.05])][2:]
    [('random', 0.05), ('cacheblend', 0.15)]
    """
    found: list[Method] = []
    for name in (*_FLOORS, *(names or _DEFAULT)):
        found += _methods(name, ratios)
    return list(dict.fromkeys(found))


def _methods(wanted: str, ratios: Sequence[float]) -> list[Method]:
    name, at, ratio = wanted.partition("@")
    once = {**_FLOORS, **_REUSE}
    if name in once and not at:
        return [Method(name, once[name], None, 0.0)]
    if name not in _RULES:
        raise RequestError(f"got method {wanted!r}, expected one of: {', '.join([*once, *_RULES])}")
    chunks, selector = _RULES[name]
    return [Method(name, chunks, selector, each) for each in ([_number(wanted, ratio)] if at else ratios)]


def _number(wanted: str, text: str) -> float:
    ratio = parse_ratio(text)
    if isinstance(ratio, str):
        raise RequestError(f"got method {wanted!r}, expected a number behind the @, as in 0.15")
    return ratio
