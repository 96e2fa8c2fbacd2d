"""Filters on documents' metadata, in the shape that OpenAI's search takes.

``{"type": "and", "filters": [{"type": "eq", "key": "lang", "value": "en"}, {"type": "gte", ...}]}``

Reference: https://platform.openai.com/docs/guides/retrieval#attribute-filtering
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retriever.errors import QueryError

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]
Metadata = Mapping[str, Value]
"""Metadata of a document: `path`, `title`, and what its `.metadata.json` file holds."""

RANGES: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
COMPARISONS = ("eq", "ne", *RANGES, "in", "nin")
COMPOUNDS = ("and", "or")
MAX_DEPTH = 8
MAX_PARTS = 256
"""Maximum number of filters in a compound, and of values in a list."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares the value of one key.

    A document that lacks the key passes `ne` and `nin` alone. One whose value is a list passes when any of
    its items does (`ne`, `nin`: all). Ranges compare numbers with numbers and strings with strings.
    """

    type: str
    key: str
    value: Value

    def passes(self, metadata: Metadata) -> bool:
        """Whether a document passes."""
        if self.type == "ne":
            return not Comparison("eq", self.key, self.value).passes(metadata)
        if self.type == "nin":
            return not Comparison("in", self.key, self.value).passes(metadata)
        found = metadata.get(self.key)
        items = found if isinstance(found, tuple) else () if found is None else (found,)
        return any(self._holds(item) for item in items)

    def _holds(self, item: Scalar) -> bool:
        if self.type in RANGES:
            return _comparable(item, self.value) and RANGES[self.type](item, self.value)
        wanted = self.value if isinstance(self.value, tuple) else (self.value,)
        return any(_comparable(item, value) and item == value for value in wanted)


@dataclass(frozen=True, slots=True)
class Compound:
    """Several filters: all of them (`and`) or any (`or`)."""

    type: str
    filters: tuple["Filter", ...]

    def passes(self, metadata: Metadata) -> bool:
        """Whether a document passes."""
        passed = (one.passes(metadata) for one in self.filters)
        return all(passed) if self.type == "and" else any(passed)


Filter = Comparison | Compound


def parse_filter(given: Any, option: str = "filter", depth: int = 0) -> Filter:
    """A filter from parsed JSON.

    Args:
        option: name of the filter in error messages.

    >>> parse_filter({"type": "in", "key": "lang", "value": ["en", "fr"]}).passes({"lang": "fr"})
    True

    Raises:
        QueryError: not a valid filter.
    """
    if not isinstance(given, Mapping):
        raise QueryError(f"got {_short(given)}, expected an object with type, key and value", option)
    kind = given.get("type")
    if kind in COMPOUNDS:
        return _compound(given, option, depth)
    if kind not in COMPARISONS:
        known = ", ".join((*COMPARISONS, *COMPOUNDS))
        raise QueryError(f"got {_short(kind)}, expected one of {known}", f"{option}.type")
    _check_keys(given, {"type", "key", "value"}, option)
    key, value = given.get("key"), given.get("value")
    if not isinstance(key, str) or not key:
        raise QueryError(f"got {_short(key)}, expected the name of a metadata key", f"{option}.key")
    return Comparison(str(kind), key, _value(str(kind), value, f"{option}.value"))


def _compound(given: Mapping[str, Any], option: str, depth: int) -> Compound:
    _check_keys(given, {"type", "filters"}, option)
    parts = given.get("filters")
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        raise QueryError(f"got {_short(parts)}, expected a list of filters, not empty", f"{option}.filters")
    if len(parts) > MAX_PARTS:
        raise QueryError(f"got {len(parts)} filters, expected at most {MAX_PARTS}", f"{option}.filters")
    if depth >= MAX_DEPTH:
        raise QueryError(f"got filters nested deeper than {MAX_DEPTH}, expected fewer levels", option)
    filters = (parse_filter(part, f"{option}.filters[{i}]", depth + 1) for i, part in enumerate(parts))
    return Compound(given["type"], tuple(filters))


def _value(kind: str, value: Any, option: str) -> Value:
    if kind in ("in", "nin"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(is_scalar, value)):
            raise QueryError(f"got {_short(value)}, expected a list of strings, numbers or booleans", option)
        if len(value) > MAX_PARTS:
            raise QueryError(f"got {len(value)} values, expected at most {MAX_PARTS}", option)
        return tuple(value)
    if not is_scalar(value) or (kind in RANGES and isinstance(value, bool)):
        expected = "a string or a number" if kind in RANGES else "a string, a number or a boolean"
        raise QueryError(f"got {_short(value)}, expected {expected}", option)
    scalar: Scalar = value
    return scalar


def _check_keys(given: Mapping[str, Any], known: set[str], option: str) -> None:
    if unknown := set(given) - known:
        raise QueryError(
            f"got the unknown key {_short(min(map(str, unknown)))}, expected {', '.join(sorted(known))}",
            option,
        )


def is_scalar(value: Any) -> bool:
    """Whether a value can be compared at all."""
    return isinstance(value, str | int | float | bool) and value == value  # NaN equals nothing


def _comparable(one: Any, other: Any) -> bool:
    """Whether two values are of one kind; a boolean is not a number here."""
    return _kind(one) is _kind(other)


def _kind(value: Any) -> type:
    return next(kind for kind in (bool, str, object) if isinstance(value, kind))


def _short(value: Any) -> str:
    return repr(value)[:80]
