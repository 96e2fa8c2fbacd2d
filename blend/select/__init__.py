"""Selectors by name: rules that pick which context tokens are recomputed."""

from functools import cache
from importlib import import_module

from blend.errors import RequestError
from blend.plan.ratio import AUTO, Ratio, auto_needs_question, check_ratio
from blend.select.base import Selector

_PLACES = {
    "question-late": "blend.select.question:LateQuestion",
    "question": "blend.select.question:Question",
    "question-deviation": "blend.select.question_deviation:QuestionDeviation",
    "last-token": "blend.select.question:LastToken",
    "deviation": "blend.select.deviation:Deviation",
    "deviation-keys": "blend.select.deviation:KeyDeviation",
    "deviation-values": "blend.select.deviation:ValueDeviation",
    "first": "blend.select.first:First",
    "random": "blend.select.random:Random",
    "all": "blend.select.all:All",
}


def register(name: str, place: str) -> None:
    """Register a selector under a name, in this process.

    Args:
        name: what users write.
        place: "module:Class", imported at its first use; the class takes no arguments.
    """
    _PLACES[name] = place
    _load.cache_clear()


def names() -> tuple[str, ...]:
    """Names of all known selectors."""
    return tuple(_PLACES)


def selector(name: str) -> Selector:
    """The selector with a name, one instance per process.

    Raises:
        RequestError: no selector has this name.

    >>> selector("first").probe_layer is None
    True
    """
    if name not in _PLACES:
        raise RequestError(f"got selector {name!r}, expected one of: {', '.join(sorted(_PLACES))}")
    return _load(name)


def check_rule(ratio: Ratio, name: str) -> None:
    """Check that a ratio and a selector are valid and go together.

    Raises:
        RequestError: either is invalid, or "auto" comes with a selector that does not look at the question.
    """
    check_ratio(ratio)
    if ratio == AUTO and selector(name).question_layers is None:
        raise RequestError(auto_needs_question(name))
    selector(name)


@cache
def _load(name: str) -> Selector:
    module, _, attribute = _PLACES[name].partition(":")
    instance: Selector = getattr(import_module(module), attribute)()
    return instance
