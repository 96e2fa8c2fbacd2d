"""Arguments that benchmarks share: types of numbers, the chunks that are measured, where results go."""

import argparse
from pathlib import Path

from blend.settings.defaults import DEFAULT_MODEL


def add_chunks(parser: argparse.ArgumentParser, pool: int) -> None:
    """The model, and the chunks that are cut for it.

    Args:
        pool: how many by default.
    """
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    add("--data", type=Path, default=None, metavar="FOLDER", help="documents; the demo's unless given")
    add("--pool", type=positive, default=pool, metavar="N", help="chunks to draw from (default: %(default)s)")
    add("--chunk-tokens", type=positive, default=512, metavar="N", help="of each (default: %(default)s)")


def add_questions(parser: argparse.ArgumentParser, num: int, *, required: bool) -> None:
    """The model, and the questions of a data file that it is asked.

    Args:
        num: most questions by default.
    """
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    add("--data", type=Path, required=required, metavar="FILE", help="questions as JSON lines, or gzipped")
    add("--questions", type=positive, default=num, metavar="N", help="most questions (default: %(default)s)")
    add("--skip", type=not_negative, default=0, metavar="N", help="rows left out at the start of the file")
    add("--passages", type=positive, default=8, metavar="K", help="chunks of a prompt (default: %(default)s)")
    add("--max-tokens", type=positive, default=16, help="of an answer (default: %(default)s)")


def add_ending(parser: argparse.ArgumentParser) -> None:
    """The seed, and where the results go."""
    add = parser.add_argument
    add("--seed", type=not_negative, default=0, help="of random choices (default: %(default)s)")
    add(
        "--out",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="for table.txt, result.json, plots and journal",
    )
    add("--json", action="store_true", help="print the JSON line alone")


def positive(value: str) -> int:
    """A whole number from 1 up."""
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"got {value}, expected a number from 1 up")
    return int(value)


def not_negative(value: str) -> int:
    """A whole number from 0 up."""
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"got {value}, expected a number from 0 up")
    return int(value)


def names(value: str) -> tuple[str, ...]:
    """Different names, separated by commas.

    >>> names("a, b,a")
    ('a', 'b')
    """
    return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))


def ratios(value: str) -> tuple[float, ...]:
    """Different recompute ratios, separated by commas.

    >>> ratios("0.15,0.150,1")
    (0.15, 1.0)
    """
    try:
        found = tuple(dict.fromkeys(float(part) for part in names(value)))
    except ValueError:
        found = ()
    if not found or not all(0 <= ratio <= 1 for ratio in found):
        raise argparse.ArgumentTypeError(f"got {value}, expected numbers from 0 to 1 such as 0.05,0.15")
    return found


def share(value: str) -> float:
    """A number in [0, 1]."""
    return _number(value, 0.0, 1.0, "a number from 0 to 1")


def exponent(value: str) -> float:
    """A number from 0 to 10."""
    return _number(value, 0.0, 10.0, "a number from 0 to 10")


def seconds(value: str) -> float:
    """A duration above zero."""
    return _number(value, 1e-3, 1e6, "seconds, above zero")


def rates(value: str) -> tuple[float, ...]:
    """Numbers of requests a second, such as "0.1,0.2"."""
    parts = [part for part in value.split(",") if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError(f"got {value!r}, expected requests a second such as 0.1,0.2")
    return tuple(_number(part, 1e-6, 1e6, "requests a second such as 0.1,0.2") for part in parts)


def _number(value: str, low: float, high: float, expected: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"got {value}, expected {expected}")
    return number
