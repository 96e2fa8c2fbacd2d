"""Which chunks stand in a prompt."""

from itertools import islice
from random import Random

from bench.combinations import novel_combinations


def test_a_combination_never_comes_twice_and_another_order_is_another() -> None:
    found = list(novel_combinations(5, 3, Random(0)))
    assert len(found) == len(set(found)) == 5 * 4 * 3
    assert all(len(set(one)) == 3 for one in found)


def test_a_seed_gives_the_same_combinations() -> None:
    first, same, other = (list(islice(novel_combinations(24, 6, Random(seed)), 50)) for seed in (0, 0, 1))
    assert first == same != other
