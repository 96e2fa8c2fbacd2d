"""Ages and sums in tables."""

import time

from blend.settings.sizes import show_bytes

AGES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def show_age(used_s: float, now_s: float | None = None) -> str:
    """The age of a time of use.

    >>> show_age(1000, now_s=1000 + 7300), show_age(1000, now_s=1000.2)
    ('2 h ago', 'just now')
    """
    age = (time.time() if now_s is None else now_s) - used_s
    for unit, seconds in AGES:
        if age >= seconds:
            return f"{int(age // seconds)} {unit} ago"
    return "just now"


def sum_line(num: int, num_bytes: int) -> str:
    """Number and bytes of chunks.

    >>> sum_line(1, 1500)
    '1 chunk, 1.5 KB'
    """
    return f"{num} chunk{'' if num == 1 else 's'}, {show_bytes(num_bytes)}"
