"""Popular chunks are drawn more often; and sorted by rank, prompts begin alike more often."""

from collections import Counter
from itertools import pairwise
from random import Random

from blend.speed.stream import draw, shares


def test_ranks_are_different_and_follow_the_law() -> None:
    random = Random(0)
    drawn = [draw(random, 20, 5) for _ in range(2000)]
    assert all(len(set(ranks)) == 5 and max(ranks) < 20 for ranks in drawn)
    first = Counter(ranks[0] for ranks in drawn)
    # Zipf's law over 20 ranks: the first has 1 / H(20) = 28 %, the second half of it.
    assert 0.25 < first[0] / 2000 < 0.31
    assert 0.11 < first[1] / 2000 < 0.17


def test_sorting_lengthens_common_beginnings() -> None:
    random = Random(0)
    drawn = [draw(random, 12, 4) for _ in range(500)]

    def begin_alike(prompts: list[list[int]]) -> int:
        return sum(a[0] == b[0] for a, b in pairwise(prompts))

    assert begin_alike([sorted(ranks) for ranks in drawn]) > 1.5 * begin_alike(drawn)


def test_all_of_a_stream_is_asked() -> None:
    assert sum(shares(20, 6)) == 20
    assert shares(2, 5) == [0, 0, 1, 0, 1]
