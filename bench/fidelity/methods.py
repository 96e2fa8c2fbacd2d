"""The laboratory's methods by name: how chunk KV is computed, and which rule picks what is recomputed.

One line a method, with the paper it comes from; its ratios are asked for by the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.fidelity.method import NONE, WRONG, Method
from blend.errors import RequestError
from blend.plan.ratio import parse_ratio

ALONE, PREFIXED, LED, ECHOED = "alone", "prefixed", "led", "echoed"
"""Chunk KV computed behind nothing, behind the prefix, or behind the prefix and the lead; and this with
echoes, for text that a prompt holds twice."""


@dataclass(frozen=True, slots=True)
class _Rule:
    chunks: str
    selector: str | None
    corrector: str | None = None


_RULES = {
    # https://arxiv.org/abs/2405.16444, as published: chunks alone, value deviation at layer 1
    "cacheblend": _Rule(ALONE, "deviation-values"),
    "cacheblend-keys": _Rule(ALONE, "deviation-keys"),
    "cacheblend-both": _Rule(ALONE, "deviation"),
    "cacheblend-narrowing": _Rule(ALONE, "narrowing"),
    # https://arxiv.org/abs/2410.15332
    "epic": _Rule(ALONE, "first"),
    # https://arxiv.org/abs/2602.02579
    "prophetkv": _Rule(ALONE, "question"),
    # https://arxiv.org/abs/2603.05353
    "infoflow": _Rule(ALONE, "question-late"),
    "prefixed-deviation": _Rule(PREFIXED, "deviation-values"),
    "prefixed-question-deviation": _Rule(PREFIXED, "question-deviation"),
    "prefixed-question-late": _Rule(PREFIXED, "question-late"),
    "led-deviation": _Rule(LED, "deviation-values"),
    "led-question": _Rule(LED, "question"),
    "led-last-token": _Rule(LED, "last-token"),
    "led-question-late": _Rule(LED, "question-late"),
    "led-question-deviation": _Rule(LED, "question-deviation"),
    "led-oracle": _Rule(LED, "oracle"),
    "echoed-question-late": _Rule(ECHOED, "question-late"),
    "random": _Rule(LED, "random"),
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
        return [Method(name, once[name], None, None, 0.0)]
    if name not in _RULES:
        raise RequestError(f"got method {wanted!r}, expected one of: {', '.join([*once, *_RULES])}")
    rule = _RULES[name]
    own = [_number(wanted, ratio)] if at else ratios
    return [Method(name, rule.chunks, rule.selector, rule.corrector, each) for each in own]


def _number(wanted: str, text: str) -> float:
    ratio = parse_ratio(text)
    if isinstance(ratio, str):
        raise RequestError(f"got method {wanted!r}, expected a number behind the @, as in 0.15")
    return ratio
