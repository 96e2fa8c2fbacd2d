"""The salt of a blended request: anything that the blend depends on changes it."""

from dataclasses import replace

import pytest

from blend.chunks.chunk import make_record
from blend.plan.plan import Span, make_plan
from blend.plan.salt import blend_salt

A = make_record("m", (1, 2), (10, 11, 12))
B = make_record("m", (1, 2), (20, 21))
PROMPT = (1, 2, *A.token_ids, 5, *B.token_ids, 30, 31)


PLAN = make_plan(PROMPT, [(2, A), (6, B)])
GIVEN = {"user_salt": "u", "plan": PLAN, "ratio": 0.15, "selector_name": "deviation", "suffix_ids": (30, 31)}

CHANGES = {
    "user salt": {"user_salt": "v"},
    "no user salt": {"user_salt": None},
    "empty user salt": {"user_salt": ""},
    "ratio": {"ratio": 0.16},
    "selector": {"selector_name": "first"},
    "suffix": {"suffix_ids": (30, 32)},
    "empty suffix": {"suffix_ids": ()},
    "no suffix": {"suffix_ids": None},
    "order": {"plan": make_plan((1, 2, *B.token_ids, 5, *A.token_ids, 30), [(2, B), (5, A)])},
    "a gap's token": {"plan": make_plan((*PROMPT[:5], 6, *PROMPT[6:]), [(2, A), (6, B)])},
    "a chunk unknown": {"plan": make_plan(PROMPT, [(6, B)])},
    "the last chunk's end": {"plan": make_plan(PROMPT[:8], [(2, A), (6, B)])},
    "a chunk's prefix": {"plan": make_plan(PROMPT, [(2, A), (6, make_record("m", (1,), B.token_ids))])},
    "a chunk's model": {"plan": make_plan(PROMPT, [(2, A), (6, make_record("n", (1, 2), B.token_ids))])},
    "a chunk's place": {"plan": replace(PLAN, spans=(PLAN.spans[0], Span(B, 5, exact=False)))},
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_changes_the_salt(change: str) -> None:
    assert blend_salt(**{**GIVEN, **CHANGES[change]}) != blend_salt(**GIVEN)


def test_all_changes_give_salts_of_their_own() -> None:
    salts = {blend_salt(**{**GIVEN, **change}) for change in CHANGES.values()}
    assert len(salts) == len(CHANGES)


def test_the_same_request_gives_the_same_salt() -> None:
    again = make_plan(list(PROMPT), [(2, make_record("m", [1, 2], [10, 11, 12])), (6, B)])
    assert blend_salt(**{**GIVEN, "plan": again, "suffix_ids": [30, 31]}) == blend_salt(**GIVEN)


def test_the_suffix_does_not_matter_when_the_selector_does_not_look_at_it() -> None:
    longer = make_plan((*PROMPT, 40, 41), [(2, A), (6, B)])
    assert blend_salt("u", longer, 0.15, "deviation") == blend_salt("u", PLAN, 0.15, "deviation")


def test_a_version_of_the_stored_numbers_has_salts_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = blend_salt(**GIVEN)
    monkeypatch.setattr("blend.plan.salt.FORMAT_VERSION", 999)
    assert blend_salt(**GIVEN) != before
