"""Rows of text in columns that stand straight, for people."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], right: Collection[str]) -> str:
    """Rows under each other.

    Args:
        rows: of the same length, the head first.
        right: names in the head whose columns hold numbers, and stand to the right.

    >>> print(aligned([("arm", "ms"), ("blend", "7")], right={"ms"}))
    arm    ms
    blend   7
    """
    head, *_ = rows
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
