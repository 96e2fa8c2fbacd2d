"""Two versions of a chunk: what they are keyed by, and which chunk a stored one belongs to."""

from dataclasses import replace

import pytest

from blend.chunk import make_record
from blend.plan import make_plan
from blend.versions import Prefixes, ids_of

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
    assert PREFIXES.records == (make_record("m", (), PREFIX), make_record("m", (), PREFIX + LEAD))
    empty = replace(PREFIXES, prefix_ids=())
    assert (empty.prefix, empty.records) == (None, (make_record("m", (), LEAD),))


@pytest.mark.parametrize("prefix", [PREFIX, ()])
def test_a_stored_record_tells_which_chunk_it_is_a_version_of(prefix: tuple[int, ...]) -> None:
    stored = replace(PREFIXES, prefix_ids=prefix)
    asked = Prefixes("m", (4, 4), LEAD, 100)  # of any collection of this model
    plain, led = stored.versions(CHUNK).records
    assert asked.plain_id(plain) == asked.plain_id(led) == plain.chunk_id
    assert asked.plain_id(stored.led_prefix) == make_record("m", (), prefix).chunk_id
    assert asked.plain_id(make_record("m", (), PREFIX)) == make_record("m", (), PREFIX).chunk_id


def test_ids_of_records() -> None:
    assert ids_of([]) == frozenset()
    assert ids_of(PREFIXES.records) == {record.chunk_id for record in PREFIXES.records}
