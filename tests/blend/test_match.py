"""Finding known chunks in a prompt's token ids."""

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend.chunk import ChunkRecord, make_record
from blend.match import ChunkMatcher
from tests.reference import matching


def record(token_ids: tuple[int, ...], prefix_ids: tuple[int, ...] = ()) -> ChunkRecord:
    return make_record("m", prefix_ids, token_ids)


def matcher(*records: ChunkRecord) -> ChunkMatcher:
    known = ChunkMatcher()
    for one in records:
        known.add(one)
    return known


# Two letters, and a head that is often the same: nearly every prompt holds chunks that overlap, nest and
# share their first ids, few or many.
HEAD = (0,) * 8
tails = st.lists(st.integers(0, 1), max_size=12).map(tuple)
ids = st.builds(lambda head, tail: head + tail, st.sampled_from([(), HEAD]), tails)
prefixes = st.lists(st.integers(0, 1), max_size=3).map(tuple)
records = st.lists(st.builds(record, ids, prefixes), max_size=8, unique_by=lambda r: r.chunk_id)
prompts = st.lists(ids, max_size=3).map(lambda parts: sum(parts, ()))


@given(records, prompts, st.data())
def test_finds_what_trying_everything_finds(
    known: list[ChunkRecord], prompt: tuple[int, ...], data: st.DataObject
) -> None:
    known = [r for r in known if r.token_ids]
    known_matcher = matcher(*known)
    assert known_matcher.find(prompt) == matching.find(known, prompt)
    gone = data.draw(st.lists(st.sampled_from(known), unique_by=id)) if known else []
    for one in gone:
        known_matcher.remove(one.chunk_id)
    left = [r for r in known if r not in gone]
    assert len(known_matcher) == len(left)
    assert known_matcher.find(prompt) == matching.find(left, prompt)


def test_chunks_are_found_in_any_order_and_twice() -> None:
    a, b = record(tuple(range(20))), record(tuple(range(50, 60)))
    prompt = (99, *b.token_ids, *a.token_ids, 98, *b.token_ids, 97)
    assert matcher(a, b).find(prompt) == [(1, b), (11, a), (32, b)]


def test_a_chunk_whose_first_ids_stand_there_but_not_all_is_not_found() -> None:
    known = matcher(record(tuple(range(20))))
    assert known.find((*range(19), 99)) == []
    assert known.find(tuple(range(19))) == []


def test_the_longest_of_nested_chunks_wins() -> None:
    short, long = record(tuple(range(9))), record(tuple(range(30)))
    assert matcher(short, long).find(tuple(range(40))) == [(0, long)]
    assert matcher(short, long).find(tuple(range(29))) == [(0, short)]


def test_the_shorter_is_found_where_a_longer_one_with_the_same_start_does_not_stand() -> None:
    head = tuple(range(10))
    short, longer = record((*head, 1)), record((*head, 1, 5, 9))
    assert matcher(short, longer).find((*head, 1, 7, 9)) == [(0, short)]
    assert matcher(short, longer).find((*head, 1, 3, 9)) == [(0, short)]
    assert matcher(longer).find((*head, 1, 7, 9)) == []


def test_chunks_of_one_token_are_found() -> None:
    one = record((5,))
    assert matcher(one).find((4, 5, 6, 5)) == [(1, one), (3, one)]


@pytest.mark.parametrize("swap", [False, True])
def test_the_variant_behind_this_very_prefix_wins(swap: bool) -> None:
    here, other = record((7, 8, 9), (1, 2)), record((7, 8, 9), (1,))
    known = matcher(*((other, here) if swap else (here, other)))
    assert known.find((1, 2, 7, 8, 9)) == [(2, here)]
    assert known.find((1, 7, 8, 9)) == [(1, other)]
    assert known.find((1, 2, 5, 7, 8, 9)) == [(3, here)], "both prefixes start the prompt: the longer one"
    assert known.find((1, 5, 7, 8, 9)) == [(2, other)]


def test_of_variants_behind_foreign_prefixes_the_last_added_wins() -> None:
    old, new, bare = record((7, 8), (1,)), record((7, 8), (2,)), record((7, 8))
    assert matcher(old, new, bare).find((3, 7, 8)) == [(1, new)]
    assert matcher(bare).find((3, 7, 8)) == [(1, bare)]
    assert matcher(old, new, bare).find((7, 8)) == [(0, bare)], "nothing stands before it: exact"


def test_adding_twice_and_removing_the_unknown_do_nothing() -> None:
    a = record((1, 2, 3))
    known = matcher(a, a)
    assert len(known) == 1
    known.remove("no such chunk")
    known.remove(a.chunk_id)
    known.remove(a.chunk_id)
    assert len(known) == 0
    assert a.chunk_id not in known
    assert known.find((1, 2, 3)) == []


def many_records(random: Random, head: tuple[int, ...]) -> list[ChunkRecord]:
    def ids_of(num: int) -> tuple[int, ...]:
        return head + tuple(random.randrange(49_000) for _ in range(num))

    return [ChunkRecord(str(i), ids_of(random.randint(300, 512)), (1, 2, 3)) for i in range(10_000)]


@pytest.mark.parametrize("head", [(), tuple(range(12))], ids=["distinct heads", "same head"])
def test_ten_thousand_chunks_are_searched_in_milliseconds(head: tuple[int, ...]) -> None:
    random = Random(0)
    known = many_records(random, head)
    known_matcher = matcher(*known)
    prompt = [token for one in random.sample(known, 8) for token in one.token_ids] + list(head) * 50
    prompt += [random.randrange(49_000) for _ in range(4000 - len(prompt))]
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        found = known_matcher.find(prompt)
        seconds.append(time.perf_counter() - begin)
    assert len(found) == 8
    assert min(seconds) < 0.05, "a few milliseconds when the machine is idle"
