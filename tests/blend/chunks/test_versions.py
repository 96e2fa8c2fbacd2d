"""Two versions of a chunk: what they are keyed by, and which chunk a stored one belongs to."""

from dataclasses import replace

import pytest

from blend.chunks.chunk import PositionGap, make_record
from blend.chunks.versions import LONG_TOKENS, SKIPPED_POSITIONS, Prefixes, ids_of, to_store
from blend.plan.plan import make_plan

PREFIX, LEAD, CHUNK = (1, 2, 3), (50, 51, 52, 53), (7, 8, 9)
PREFIXES = Prefixes("m", PREFIX, LEAD, max_tokens=100)


def test_the_lead_is_part_of_what_the_led_version_stands_behind() -> None:
    versions = PREFIXES.versions(CHUNK)
    assert versions.plain == make_record("m", PREFIX, CHUNK)
    assert versions.led == make_record("m", PREFIX + LEAD, CHUNK)
    assert versions.records == (versions.plain, versions.led)
    assert versions.led.offset == 7


def test_only_the_plain_version_is_exact_behind_the_prefix() -> None:
    plain, led = PREFIXES.versions(CHUNK).records
    prompt = (*PREFIX, *CHUNK, 99)
    assert [make_plan(prompt, [(3, one)]).spans[0].exact for one in (plain, led)] == [True, False]


def test_a_chunk_too_long_to_stand_behind_prefix_and_lead_has_its_plain_version_only() -> None:
    fits = replace(PREFIXES, max_tokens=len(PREFIX + LEAD + CHUNK))
    assert fits.versions(CHUNK).led is not None
    too_long = replace(fits, max_tokens=fits.max_tokens - 1).versions(CHUNK)
    assert too_long.led is None
    assert too_long.records == (fits.versions(CHUNK).plain,)


def test_prefix_and_lead_are_kept_as_chunks_of_their_own() -> None:
    assert PREFIXES.heads() == (make_record("m", (), PREFIX), make_record("m", (), PREFIX + LEAD))
    empty = replace(PREFIXES, prefix_ids=())
    assert (empty.prefix, empty.heads()) == (None, (make_record("m", (), LEAD),))


def test_a_long_chunk_is_led_from_afar() -> None:
    roomy, long = replace(PREFIXES, max_tokens=5000), tuple(range(LONG_TOKENS))
    versions, far = roomy.versions(long), PositionGap(after=3, by=SKIPPED_POSITIONS)
    assert versions.plain.position_gap is None
    assert versions.led == make_record("m", PREFIX + LEAD, long, far)
    assert roomy.versions(long[1:]).led == make_record("m", PREFIX + LEAD, long[1:])
    assert roomy.heads((LONG_TOKENS, LONG_TOKENS + 1)) == (
        make_record("m", (), PREFIX),
        make_record("m", (), PREFIX + LEAD, far),
    )
    assert len(roomy.heads()) == 3
    assert make_plan((*PREFIX, *LEAD, *long, 99), [(7, versions.led)]).spans[0].exact is False


def test_no_chunk_is_led_from_farther_than_the_model_sees_or_from_nowhere() -> None:
    long = tuple(range(LONG_TOKENS))
    farthest = replace(PREFIXES, max_tokens=len(PREFIX + LEAD + long) + SKIPPED_POSITIONS)
    near = make_record("m", PREFIX + LEAD, long)
    led = farthest.versions(long).led
    assert led is not None and led.position_gap is not None
    short = replace(farthest, max_tokens=farthest.max_tokens - 1)
    assert short.versions(long).led == near
    assert short.led_prefix(len(long)) == make_record("m", (), PREFIX + LEAD)
    assert replace(farthest, prefix_ids=()).versions(long).led == make_record("m", LEAD, long)
    # What was stored when the model was longer, or shorter, is known as the chunk's.
    assert {led, near} < set(short.ever([long])) and {led, near} < set(farthest.ever([long]))


@pytest.mark.parametrize("num_tokens", [3, LONG_TOKENS])
@pytest.mark.parametrize("prefix", [PREFIX, ()])
def test_a_stored_record_tells_which_chunk_it_is_a_version_of(
    prefix: tuple[int, ...], num_tokens: int
) -> None:
    stored = replace(PREFIXES, prefix_ids=prefix, max_tokens=5000)
    asked = Prefixes("m", (4, 4), LEAD, 100)  # of any collection of this model
    plain, led = stored.versions(range(num_tokens)).records
    assert asked.plain_id(plain) == asked.plain_id(led) == plain.chunk_id
    assert asked.plain_id(stored.led_prefix(num_tokens)) == make_record("m", (), prefix).chunk_id
    assert asked.plain_id(make_record("m", (), PREFIX)) == make_record("m", (), PREFIX).chunk_id


@pytest.mark.parametrize("prefix", [PREFIX, ()])
@pytest.mark.parametrize("num_tokens", [3, LONG_TOKENS])
def test_an_echo_stands_behind_its_first_reading(prefix: tuple[int, ...], num_tokens: int) -> None:
    prefixes = replace(PREFIXES, prefix_ids=prefix, max_tokens=5000)
    chunk = tuple(range(100, 100 + num_tokens))
    plain, led, echo = (one := prefixes.versions(chunk)).plain, one.led, one.echo
    assert led is not None and echo is not None
    assert echo == make_record("m", (*led.prefix_ids, *chunk), chunk, led.position_gap)
    assert (echo.is_echo, echo.base_ids) == (True, led.prefix_ids)
    assert not plain.is_echo and not led.is_echo and led.base_ids == led.prefix_ids
    assert one.records == (plain, led), "not every chunk's is stored"
    assert prefixes.plain_id(echo) == plain.chunk_id
    assert echo in set(prefixes.ever([chunk]))


def test_a_chunk_too_long_to_be_read_twice_has_no_echo() -> None:
    fits = replace(PREFIXES, max_tokens=len(PREFIX + LEAD + CHUNK + CHUNK))
    assert fits.versions(CHUNK).echo is not None
    too_long = replace(fits, max_tokens=fits.max_tokens - 1).versions(CHUNK)
    assert too_long.led is not None and too_long.echo is None
    assert PREFIXES.versions(()).echo is None


def test_echoes_are_stored_of_chunks_that_share_text() -> None:
    roomy = replace(PREFIXES, max_tokens=5000)
    chunks = [tuple(range(a, a + 200)) for a in (1000, 1100, 2000)]
    plain, led, echoes = to_store(roomy, chunks)
    versions = [roomy.versions(ids) for ids in chunks]
    assert (plain, led) == ([one.plain for one in versions], [one.led for one in versions])
    assert echoes == [one.echo for one in versions[:2]]


def test_ids_of_records() -> None:
    assert ids_of([]) == frozenset()
    assert ids_of(PREFIXES.heads()) == {record.chunk_id for record in PREFIXES.heads()}
