"""Types of settings: each turns what people write in a file, a variable or a flag into a checked value."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from blend.settings.sizes import parse_bytes

UNLIMITED = "none"
AUTO: Literal["auto"] = "auto"


def _not_a_switch(value: Any) -> Any:
    """Python takes True for 1; a number that is written as true is a mistake."""
    if isinstance(value, bool):
        raise ValueError(f"got {value!r}, expected a number")
    return value


def _size_or(word: str, meaning: Any) -> BeforeValidator:
    return BeforeValidator(lambda given: meaning if given in (word, meaning) else parse_bytes(str(given)))


def _choice_of(given: Any) -> Any:
    """YAML reads an unquoted `no` as false."""
    return "no" if given is False else given


def _names(given: Any) -> Any:
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


def _path(given: Any) -> Any:
    if given is not None and (not isinstance(given, str | Path) or not str(given)):
        raise ValueError(f"got {given!r}, expected the path of a file or folder")
    return given and Path(given).expanduser()


_NUMBER = BeforeValidator(_not_a_switch)

Size = Annotated[int, BeforeValidator(lambda given: parse_bytes(str(given)))]
"""A number of bytes, such as 500MB or 2GiB."""
PositiveSize = Annotated[Size, Field(gt=0)]
SizeOrUnlimited = Annotated[int | None, _size_or(UNLIMITED, None)]
SizeOrAuto = Annotated[int | Literal["auto"], _size_or(AUTO, AUTO)]
Count = Annotated[int, _NUMBER, Field(gt=0)]
Seconds = Annotated[float, _NUMBER, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, _NUMBER, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_names)]
"""A YAML list; in a variable, names with commas between them."""
FileOrFolder = Annotated[Path, BeforeValidator(_path)]
FileOrNone = Annotated[Path | None, BeforeValidator(_path)]
Choice = BeforeValidator(_choice_of)
"""Goes with a `Literal` or an enumeration that knows the word "no"."""


def converted_by(convert: Callable[[Any], Any], *errors: type[Exception]) -> BeforeValidator:
    """A validator that makes the value with `convert`; None and "none" stay None.

    Args:
        errors: what `convert` raises for a value that makes no sense.
    """

    def validate(given: Any) -> Any:
        try:
            return None if given in (None, UNLIMITED) else convert(given)
        except errors as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(validate)
