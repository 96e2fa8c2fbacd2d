"""Which chunks stand in a prompt."""

from collections import Counter
from itertools import islice
from random import Random

import numpy as np
import pytest

from api.bench.combinations import novel_combinations, zipf_draw


def first_choices(exponent: float, num: int = 20_000) -> list[float]:
    """How often each of four chunks is drawn, as shares."""
    rng = np.random.default_rng(0)
    counts = Counter(zipf_draw(4, 1, exponent, rng)[0] for _ in range(num))
    return [counts[chunk] / num for chunk in range(4)]


def test_popularity_falls_with_the_rank_as_zipf_has_it() -> None:
    total = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert first_choices(1.0) == pytest.approx([1 / rank / total for rank in (1, 2, 3, 4)], abs=0.015)
    assert first_choices(0.0) == pytest.approx([0.25] * 4, abs=0.015)


def test_the_chunks_of_a_draw_differ_and_stand_in_no_fixed_order() -> None:
    rng = np.random.default_rng(0)
    draws = [zipf_draw(6, 3, 1.0, rng) for _ in range(200)]
    assert all(len(set(draw)) == 3 for draw in draws)
    assert any(draw != tuple(sorted(draw)) for draw in draws)


def test_a_combination_never_comes_twice_and_another_order_is_another() -> None:
    found = list(novel_combinations(5, 3, Random(0)))
    assert len(found) == len(set(found)) == 5 * 4 * 3
    assert all(len(set(one)) == 3 for one in found)


def test_a_seed_gives_the_same_combinations() -> None:
    first, same, other = (list(islice(novel_combinations(24, 6, Random(seed)), 50)) for seed in (0, 0, 1))
    assert first == same != other
