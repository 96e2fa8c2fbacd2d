"""Rows of text in aligned columns."""

from collections.abc import Collection, Sequence


def aligned(rows: Sequence[Sequence[str]], right: Collection[str]) -> str:
    """Align the columns of rows.

    Args:
        rows: of equal length, the head first.
        right: names of columns to align right, such as numbers.

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
