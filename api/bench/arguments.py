"""Kinds of arguments that benches take."""

import argparse


def positive(value: str) -> int:
    """A number from 1 up."""
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"got {value}, expected a number from 1 up")
    return int(value)


def not_negative(value: str) -> int:
    """A number from 0 up."""
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
