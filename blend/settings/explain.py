"""What is wrong with a setting, in one line: where it stands, what was got, what was expected, what to do."""

import difflib
from collections.abc import Iterable

from pydantic_core import ErrorDetails

from blend.settings.group import SECTIONS, Group, settings_of
from blend.settings.sources import Origins


def explain(error: ErrorDetails, group: type[Group], origins: Origins) -> str:
    """The message for one of pydantic's errors in reading a group."""
    section, *rest = place = tuple(map(str, error["loc"][:2]))
    origin = origins.get(place, "the settings")
    if not rest:
        return f"{origin}: {_unknown(f'section {section}', section, SECTIONS)}"
    settings, key = settings_of(group), rest[0]
    if key in settings:
        return f"{origin}: {key}: {_reason(error).removeprefix(f'{key}: ')}; {key} is: {settings[key].help}"
    if origin.startswith("$"):
        return _unknown(f"variable {key}", key, (one.variable for one in settings.values() if one.variable))
    return f"{origin}: {_unknown(f'setting {key} in section {section}', key, settings)}"


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value should ")
    return f"got {error['input']!r}, expected {expected[0].lower()}{expected[1:]}"


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    names = tuple(known)
    near = difflib.get_close_matches(name, names, n=1)
    meant = f", did you mean {near[0]}?" if near else ";"
    return f"unknown {what}{meant} correct or remove it; known are {', '.join(names)}"
