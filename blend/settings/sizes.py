"""Numbers of bytes: as people write them, and against a budget."""

import re

from blend.errors import StoreFull

_UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([A-Z]*)")


def parse_bytes(text: str) -> int:
    """A number of bytes, with or without a unit.

    >>> parse_bytes("1.5 GiB"), parse_bytes("20MB"), parse_bytes("512")
    (1610612736, 20000000, 512)

    Raises:
        ValueError: it is none.
    """
    found = _SIZE.fullmatch(text.strip().upper())
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"got {text!r}, expected a number of bytes, such as 500MB or 2GiB")
    return int(float(found[1]) * _UNITS[found[2]])


def write_bytes(size: int) -> str:
    """A number of bytes as people write it, exactly; the inverse of `parse_bytes`.

    >>> write_bytes(2 << 30), write_bytes(20_000_000), write_bytes(1), write_bytes(0)
    ('2GiB', '20MB', '1', '0')
    """
    whole = {name: scale for name, scale in _UNITS.items() if scale > 1 and size and size % scale == 0}
    name = max(whole, key=whole.__getitem__, default="")
    return f"{size // _UNITS[name]}{name.replace('IB', 'iB')}"


def show_bytes(size: int) -> str:
    """A number of bytes in the unit that suits it.

    >>> show_bytes(0), show_bytes(999), show_bytes(1_530_000), show_bytes(2 << 40)
    ('0 B', '999 B', '1.5 MB', '2199.0 GB')
    """
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def check_fits(num_bytes: int, budget_bytes: int, setting: str) -> None:
    """Refuse a chunk that no eviction makes room for.

    Args:
        setting: what the budget is called.

    Raises:
        StoreFull: it is over the budget alone.
    """
    if num_bytes > budget_bytes:
        raise StoreFull(
            f"a chunk of {num_bytes:,} bytes is over the budget of {budget_bytes:,} bytes; raise {setting}"
        )
