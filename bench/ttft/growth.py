"""How time to first token grows with the context: the exponent of a power law."""

from collections.abc import Sequence

import numpy as np


def exponent(lengths: Sequence[float], times: Sequence[float]) -> float | None:
    """The `e` of `time ~ length ** e` that fits best, by least squares of the logarithms.

    Args:
        lengths, times: positive, as many of one as of the other.

    Returns:
        None with fewer than two different lengths.

    >>> round(exponent([1000, 2000, 4000], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    if len(set(lengths)) < 2:
        return None
    slope, _ = np.polyfit(np.log(np.asarray(lengths)), np.log(np.asarray(times)), 1)
    return float(slope)
