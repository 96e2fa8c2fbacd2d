"""Chunks that share text with others are told from those that do not."""

from random import Random

import pytest

from blend.chunks.shared_text import MIN_SHARE, RUN_TOKENS, SharedText, run_hashes

random = Random(0)


def ids(num: int) -> list[int]:
    return [random.randrange(150_000) for _ in range(num)]


def sharing(**chunks: list[int]) -> frozenset[str]:
    shared = SharedText()
    for key, token_ids in chunks.items():
        shared.add(key, token_ids)
    return shared.keys()


def test_overlapping_chunks_share_text_and_others_do_not() -> None:
    text = ids(900)
    assert sharing(one=text[:512], other=text[400:], third=ids(512)) == {"one", "other"}


def test_where_it_stands_makes_no_difference() -> None:
    text = ids(200)
    assert sharing(one=[*ids(31), *text], other=[*text, *ids(300)]) == {"one", "other"}


def test_a_short_text_on_every_page_is_not_worth_it() -> None:
    footer = ids(RUN_TOKENS + 10)
    assert sharing(one=[*ids(470), *footer], other=[*ids(470), *footer]) == frozenset()
    long = ids(int(512 * MIN_SHARE) + 2 * RUN_TOKENS)
    assert sharing(one=[*ids(400), *long], other=[*ids(400), *long]) == {"one", "other"}


@pytest.mark.parametrize("num", [0, 1, RUN_TOKENS - 1])
def test_a_chunk_of_less_than_a_run_shares_nothing(num: int) -> None:
    text = ids(num)
    assert len(run_hashes(text)) == 0
    assert sharing(one=text, other=[*text, 1]) == frozenset()


def test_nothing_is_shared_with_itself() -> None:
    line = ids(64)
    shared = SharedText()
    for _ in range(2):
        shared.add("one", line * 8)  # the same chunk of another document, and lines in it again and again
    assert shared.keys() == frozenset() and SharedText().keys() == frozenset()


def test_a_quarter_of_the_runs_is_kept() -> None:
    num = 20_000
    assert 0.24 < len(run_hashes(ids(num))) / (num - RUN_TOKENS + 1) < 0.26
