"""What a setting's value may be: each function makes one of what a file, a variable or a flag said."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from blend.errors import ConfigError
from blend.settings.sizes import parse_bytes

UNLIMITED = "none"
AUTO = "auto"
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def a_path(value: Any, source: str) -> Path:
    """A folder or file; `~` is the user's home."""
    if not isinstance(value, str | Path) or not str(value):
        raise ConfigError(f"path: got {value!r} from {source}, expected a folder")
    return Path(value).expanduser()


def a_file(value: Any, source: str) -> Path | None:
    """A file, or none."""
    return None if value is None else a_path(value, source)


def a_size(value: Any, source: str) -> int:
    """A number of bytes, such as 500MB."""
    try:
        if (
            isinstance(value, bool)
            or not isinstance(value, str | int)
            or (isinstance(value, int) and value < 0)
        ):
            raise ValueError(f"got {value!r}, expected a number of bytes, such as 500MB or 2GiB")
        return parse_bytes(str(value))
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


def a_size_or_none(value: Any, source: str) -> int | None:
    """The same, or none for no limit."""
    return None if value is None or value == UNLIMITED else a_size(value, source)


def a_size_or_auto(value: Any, source: str) -> int | str:
    """The same, or auto for what suits the machine."""
    return AUTO if value == AUTO else a_size(value, source)


def a_positive_size(value: Any, source: str) -> int:
    """The same, but not nothing."""
    size = a_size(value, source)
    if size == 0:
        raise ConfigError(f"{source}: got {value!r}, expected a number of bytes from 1 up")
    return size


def a_count(what: str, example: int, most: int | None = None) -> Callable[[Any, str], int]:
    """Whole numbers from 1 up.

    >>> a_count("milliseconds", 1000)("20", "a file")
    20
    """

    def parse(value: Any, source: str) -> int:
        if isinstance(value, bool) or not str(value).isdecimal() or int(value) == 0:
            raise ConfigError(
                f"{source}: got {value!r}, expected a number of {what} from 1 up, such as {example}"
            )
        if most is not None and int(value) > most:
            raise ConfigError(f"{source}: got {value!r}, expected a number of {what} of at most {most}")
        return int(value)

    return parse


def a_choice(choices: Iterable[str]) -> Callable[[Any, str], str]:
    """One of some words."""
    known = tuple(choices)

    def parse(value: Any, source: str) -> str:
        if value is False and "no" in known:
            value = "no"  # as YAML reads it
        if value not in known:
            raise ConfigError(f"{source}: got {value!r}, expected one of: {', '.join(known)}")
        return str(value)

    return parse


def a_switch(value: Any, source: str) -> bool:
    """On or off."""
    if isinstance(value, bool):
        return value
    if str(value).lower() not in (*_YES, *_NO):
        raise ConfigError(f"{source}: got {value!r}, expected true or false")
    return str(value).lower() in _YES


def a_text(value: Any, source: str) -> str | None:
    """A word, or none."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{source}: got {value!r}, expected text")
    return value


def names(value: Any, source: str) -> tuple[str, ...]:
    """A list of names; in the environment, separated by commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) and part for part in value):
        raise ConfigError(f"{source}: got {value!r}, expected a list of names")
    return tuple(value)


def seconds(value: Any, source: str) -> float:
    """A time from 0 up."""
    try:
        number = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ConfigError(f"{source}: got {value!r}, expected a number of seconds from 0 up, such as 30")
    return number


def a_share(value: Any, source: str) -> float:
    """A number over 0, at most 1."""
    try:
        share = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"{source}: got {value!r}, expected a number over 0, at most 1")
    return share
