"""Which chunks stand in a prompt: novel ones, or popular ones more often."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from random import Random

import numpy as np
import pytest

from bench.combinations import draw, novel_combinations


def test_a_combination_never_comes_twice_and_another_order_is_another() -> None:
    found = list(novel_combinations(5, 3, Random(0)))
    assert len(found) == len(set(found)) == 5 * 4 * 3
    assert all(len(set(one)) == 3 for one in found)


def test_a_seed_gives_the_same_combinations() -> None:
    first, same, other = (list(islice(novel_combinations(24, 6, Random(seed)), 50)) for seed in (0, 0, 1))
    assert first == same != other


def first_choices(exponent: float, num: int = 8_000) -> list[float]:
    """How often each of four chunks is drawn, as shares."""
    rng = np.random.default_rng(0)
    counts = Counter(draw(4, 1, rng, exponent)[0] for _ in range(num))
    return [counts[chunk] / num for chunk in range(4)]


def test_popularity_falls_with_the_rank_as_zipf_has_it() -> None:
    total = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert first_choices(1.0) == pytest.approx([1 / rank / total for rank in (1, 2, 3, 4)], abs=0.015)
    assert first_choices(0.0) == pytest.approx([0.25] * 4, abs=0.015)


def test_the_chunks_of_a_draw_differ_and_stand_in_no_fixed_order() -> None:
    rng = np.random.default_rng(0)
    draws = [draw(6, 3, rng) for _ in range(200)]
    assert all(len(set(chunks)) == 3 for chunks in draws)
    assert any(chunks != tuple(sorted(chunks)) for chunks in draws)


def test_ranks_are_different_and_follow_the_law() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(20, 5, rng) for _ in range(2000)]
    assert all(len(set(ranks)) == 5 and max(ranks) < 20 for ranks in drawn)
    first = Counter(ranks[0] for ranks in drawn)
    # Zipf's law over 20 ranks: the first has 1 / H(20) = 28 %, the second half of it.
    assert 0.25 < first[0] / 2000 < 0.31
    assert 0.11 < first[1] / 2000 < 0.17


def test_sorting_lengthens_common_beginnings() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(12, 4, rng) for _ in range(500)]

    def begin_alike(prompts: Sequence[Sequence[int]]) -> int:
        return sum(a[0] == b[0] for a, b in pairwise(prompts))

    assert begin_alike([sorted(ranks) for ranks in drawn]) > 1.5 * begin_alike(drawn)
