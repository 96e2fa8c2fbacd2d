"""Tables for people."""

import time
from collections.abc import Sequence

from blend.store.sizes import show_bytes

AGES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def render(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str] = frozenset()) -> str:
    """Aligned columns; those named in `right` stand to the right.

    >>> print(render(("id", "bytes"), [("a", "10"), ("bcd", "9")], frozenset({"bytes"})))
    id   bytes
    a       10
    bcd      9
    """
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in table
    )


def show_age(used_s: float, now_s: float | None = None) -> str:
    """How long ago something was used.

    >>> show_age(1000, now_s=1000 + 7300), show_age(1000, now_s=1000.2)
    ('2 h ago', 'just now')
    """
    age = (time.time() if now_s is None else now_s) - used_s
    for unit, seconds in AGES:
        if age >= seconds:
            return f"{int(age // seconds)} {unit} ago"
    return "just now"


def sum_line(num: int, num_bytes: int) -> str:
    """How many, and how much.

    >>> sum_line(1, 1500)
    '1 chunk, 1.5 KB'
    """
    return f"{num} chunk{'' if num == 1 else 's'}, {show_bytes(num_bytes)}"
