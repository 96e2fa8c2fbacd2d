"""The recompute ratio: a number in [0, 1], or "auto"."""

from typing import Literal

from blend.errors import RequestError

AUTO: Literal["auto"] = "auto"

Ratio = float | Literal["auto"]
"""A number, or "auto": as small as the prompt allows, see `blend.select.choose.ratio_for`."""


def check_ratio(ratio: Ratio) -> Ratio:
    """Return the ratio if it is valid.

    Raises:
        RequestError: the ratio is neither a number in [0, 1] nor "auto".

    >>> check_ratio(0.15), check_ratio("auto")
    (0.15, 'auto')
    """
    if ratio != AUTO and not (isinstance(ratio, int | float) and 0.0 <= ratio <= 1.0):
        raise RequestError(
            f"got a recompute ratio of {ratio}, expected a number from 0 to 1, or 'auto'; "
            "0.15 recomputes 15 % of the context tokens"
        )
    return ratio


def parse_ratio(text: str) -> Ratio:
    """Parse a ratio.

    Raises:
        RequestError: the text is not a valid ratio.

    >>> parse_ratio("0.15"), parse_ratio("auto")
    (0.15, 'auto')
    """
    if text == AUTO:
        return AUTO
    try:
        return check_ratio(float(text))
    except ValueError:
        raise RequestError(
            f"got a recompute ratio of {text!r}, expected a number from 0 to 1, or 'auto'"
        ) from None


def auto_needs_question(selector_name: str) -> str:
    """Error message for "auto" with a selector that does not look at the question."""
    return (
        f"got the ratio 'auto' with selector {selector_name!r}, expected a selector that looks at the "
        "question, such as 'question-late'; or give a number as the ratio"
    )
