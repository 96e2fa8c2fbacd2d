"""Finding known chunks in a prompt's token ids."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blend.chunks.chunk import ChunkRecord, PositionGap, make_record
from blend.plan.match import ChunkMatcher
from tests.reference import matching
from tests.support.yardstick import soonest_s, unit_s


def record(
    token_ids: tuple[int, ...], prefix_ids: tuple[int, ...] = (), has_gap: bool = False
) -> ChunkRecord:
    position_gap = PositionGap(after=1, by=5) if has_gap and prefix_ids else None
    return make_record("m", prefix_ids, token_ids, position_gap)


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
records = st.lists(
    st.builds(record, ids, prefixes, st.booleans()), max_size=8, unique_by=lambda r: r.chunk_id
)
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


@given(records, records, prompts)
def test_two_matchers_find_what_one_would_of_both(
    common: list[ChunkRecord], own: list[ChunkRecord], prompt: tuple[int, ...]
) -> None:
    # The same ids behind the same prefix are another chunk where the key is made of something else.
    own = [make_record("mine", r.prefix_ids, r.token_ids, r.position_gap) for r in own if r.token_ids]
    common = [r for r in common if r.token_ids]
    assert matcher(*own).find(prompt, matcher(*common)) == matching.find([*common, *own], prompt)


def test_an_echo_is_found_through_its_first_reading_alone() -> None:
    ids, prefix = tuple(range(20)), (70, 71)
    plain, led = record(ids, prefix), record(ids, (*prefix, 80))
    echo, other = record(ids, (*led.prefix_ids, *ids)), record(ids, (*prefix, 81, *ids))
    known = matcher(plain, echo, led, other)
    assert known.find((*prefix, *ids, 5, *ids, 6)) == [(2, plain), (23, led)]
    assert (known.echo_of(led), known.echo_of(plain)) == (echo, None)
    assert known.plain_of(led) == known.plain_of(plain) == plain
    known.remove(echo.chunk_id)
    assert known.echo_of(led) is None
    assert matcher(echo).find((9, *ids, 5)) == [(1, echo)], "where there is nothing else"


def test_an_echo_behind_other_distances_is_another_chunks() -> None:
    ids, behind = tuple(range(20)), (70, 71)
    led = make_record("m", behind, ids, PositionGap(1, 9))
    near, far = make_record("m", behind + ids, ids), make_record("m", behind + ids, ids, PositionGap(1, 9))
    assert matcher(led, near).echo_of(led) is None
    assert matcher(led, near, far).echo_of(led) == far


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
    assert known.find((1, 5, 7, 8, 9)) == [(2, here)], "what they share with the prompt is the same"


PREFIX, LEAD, CHUNK, OTHER = (1, 2, 3), (50, 51), (7, 8, 9), (20, 21)


@pytest.mark.parametrize("swap", [False, True])
def test_right_behind_the_prefix_the_plain_version_is_taken_and_everywhere_else_the_led_one(
    swap: bool,
) -> None:
    plain, led = record(CHUNK, PREFIX), record(CHUNK, PREFIX + LEAD)
    known = matcher(*((led, plain) if swap else (plain, led)))
    assert known.find((*PREFIX, *CHUNK, 99)) == [(3, plain)]
    assert known.find((*PREFIX, *CHUNK, *CHUNK, 99)) == [(3, plain), (6, led)]
    assert known.find((*PREFIX, 5, *CHUNK)) == [(4, led)], "a gap stands between"
    assert known.find((*PREFIX, *OTHER, *CHUNK)) == [(5, led)]
    assert known.find((*CHUNK, 99)) == [(0, led)]
    assert known.find((*PREFIX, *LEAD, *CHUNK)) == [(5, led)], "exact, behind the lead itself"


def test_a_chunk_known_in_one_version_is_taken_in_it_everywhere() -> None:
    for only in (record(CHUNK, PREFIX), record(CHUNK, PREFIX + LEAD)):
        assert matcher(only).find((*PREFIX, *CHUNK, 5, *CHUNK)) == [(3, only), (7, only)]


@pytest.mark.parametrize("swap", [False, True])
def test_of_two_collections_chunks_the_one_whose_prefix_is_the_prompts_wins(swap: bool) -> None:
    # Both prefixes begin as the chat template does.
    ours = [record(CHUNK, (1, 2, 3)), record(CHUNK, (1, 2, 3, *LEAD))]
    others = [record(CHUNK, (1, 2, 4, 5)), record(CHUNK, (1, 2, 4, 5, *LEAD))]
    known = matcher(*((*others, *ours) if swap else (*ours, *others)))
    assert known.find((1, 2, 3, *OTHER, *CHUNK)) == [(5, ours[1])]
    assert known.find((1, 2, 4, 5, *OTHER, *CHUNK)) == [(6, others[1])]
    assert known.find((1, 2, 3, *CHUNK)) == [(3, ours[0])]


def test_the_lead_behind_an_empty_prefix_is_a_prefix_like_any_other() -> None:
    bare, led = record(CHUNK), record(CHUNK, LEAD)
    assert matcher(led, bare).find((*CHUNK, *OTHER, *CHUNK)) == [(0, bare), (5, led)]


def test_a_led_version_leads_to_the_plain_one_whose_id_is_the_chunks() -> None:
    bare, bare_led = record(CHUNK), record(CHUNK, LEAD)
    plain, led = record(CHUNK, PREFIX), record(CHUNK, PREFIX + LEAD)
    foreign = record(CHUNK, (9, 9))
    known = matcher(led, foreign, bare_led, plain, bare)
    for version, expected in ((led, plain), (plain, plain), (bare_led, bare), (bare, bare)):
        assert known.plain_of(version) == expected
    known.remove(bare.chunk_id)
    assert known.plain_of(foreign) == foreign
    assert known.plain_of(bare_led) == bare_led
    known.remove(plain.chunk_id)
    assert known.plain_of(led) == led, "its plain version is not stored"
    assert known.plain_of(plain) == plain


def test_all_chunks_share_one_copy_of_their_prefix() -> None:
    known = matcher(*(record((i, i), tuple(range(1000, 1002))) for i in range(3, 5)))
    (_, first), (_, second) = known.find((3, 3, 4, 4))
    assert first.prefix_ids is second.prefix_ids


def test_all_versions_of_a_chunk_share_one_copy_of_its_ids() -> None:
    ids, behind = tuple(range(1000, 1020)), (2000, 2001)
    led = record(ids, behind)
    echo = record(tuple(map(int, map(str, ids))), tuple(map(int, map(str, behind + ids))))
    known = matcher(led, echo)
    first, second = known.find((9, *ids, 9))[0][1], known.echo_of(led)
    assert second == echo and second is not None
    assert second.token_ids is first.token_ids
    assert all(one is other for one, other in zip(second.prefix_ids, behind + first.token_ids, strict=True))


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


VOCABULARY = range(49_000)


def many_records(random: Random, head: tuple[int, ...]) -> list[ChunkRecord]:
    def ids_of(num: int) -> tuple[int, ...]:
        return head + tuple(random.choices(VOCABULARY, k=num))

    return [ChunkRecord(str(i), ids_of(random.randint(300, 512)), (1, 2, 3)) for i in range(10_000)]


@pytest.mark.parametrize("head", [(), tuple(range(12))], ids=["distinct heads", "same head"])
def test_ten_thousand_chunks_are_searched_in_milliseconds(head: tuple[int, ...]) -> None:
    random = Random(0)
    known = many_records(random, head)
    known_matcher = matcher(*known)
    prompt = [token for one in random.sample(known, 8) for token in one.token_ids] + list(head) * 50
    prompt += [random.randrange(49_000) for _ in range(4000 - len(prompt))]
    assert len(known_matcher.find(prompt)) == 8
    assert soonest_s(lambda: known_matcher.find(prompt)) < 10 * unit_s(), "a few milliseconds: about one unit"
