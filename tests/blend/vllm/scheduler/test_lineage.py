"""Which blend a request goes on from, on vLLM's own book of its pages."""

import pytest
from vllm.v1.request import Request

from blend.chunks.chunk import make_record
from blend.plan.plan import make_plan
from blend.plan.sharing import Sharing
from blend.vllm.scheduler.lineage import MAX_TURNS, Lineage, Origin
from blend.vllm.scheduler.terms import Terms
from tests.support.pages import BLOCK, Pages, make_request

CHUNK = make_record("m", (), tuple(range(100, 170)))
TERMS = Terms(0.15, "question-late", 0.05, None)
QUESTION, ANSWER, OTHER = [1, 2, 3, 4], [5, 6], [1, 2, 9, 4]


class Chat:
    """Requests on one context, one after the other."""

    def __init__(self, sharing: Sharing = Sharing.NO, kept_bytes: int = 100, num_blocks: int = 64) -> None:
        self.pages = Pages(num_blocks)
        self.lineage = Lineage(sharing, kept_bytes, self._has_cached_prefix)
        self.request: Request = make_request([0])
        self._asked = 0

    def _has_cached_prefix(self, request: Request, num_tokens: int) -> bool:
        return num_tokens - self.pages.found(request) < BLOCK

    def ask(
        self,
        suffix: list[int],
        *,
        chunk: object = CHUNK,
        salt: str | None = None,
        terms: Terms = TERMS,
        sees_suffix: bool = True,
    ) -> Origin:
        assert isinstance(chunk, type(CHUNK))
        self._asked += 1
        prompt = [*chunk.token_ids, *suffix]
        self.request = make_request(prompt, f"{self._asked}", cache_salt=salt)
        plan = make_plan(prompt, [(0, chunk)])
        return self.lineage.salt(self.request, plan, terms, sees_suffix=sees_suffix)

    def answer(self) -> None:
        self.pages.answer(self.request)


def test_a_follow_up_finds_the_rows_of_its_own_conversation() -> None:
    chat = Chat()
    first = chat.ask(QUESTION)
    assert not first.is_found
    chat.answer()
    assert chat.ask([*QUESTION, *ANSWER, 7]) == Origin(first.salt, is_found=True)
    assert chat.request.cache_salt == first.salt
    assert chat.pages.found(chat.request) == 64  # of 70 context tokens: whole blocks


def test_a_later_follow_up_finds_the_longest_of_what_was_said() -> None:
    chat = Chat()
    first = chat.ask(QUESTION)
    other = chat.ask([*QUESTION, *ANSWER, *OTHER])  # the first was not answered yet
    assert first.salt != other.salt
    chat.answer()
    assert chat.ask([*QUESTION, *ANSWER, *OTHER, 8]).salt == other.salt


@pytest.mark.parametrize(
    "asked",
    [
        {"suffix": OTHER},
        {"suffix": QUESTION[:-1]},
        {"suffix": [*QUESTION, 7], "salt": "another user's"},
        {"suffix": [*QUESTION, 7], "terms": Terms(0.2, "question-late", 0.05, None)},
        {"suffix": [*QUESTION, 7], "chunk": make_record("m", (), tuple(range(101, 171)))},
    ],
)
def test_nothing_else_finds_them(asked: dict[str, object]) -> None:
    chat = Chat()
    first = chat.ask(QUESTION)
    chat.answer()
    found = chat.ask(**asked)  # type: ignore[arg-type]
    assert not found.is_found and found.salt != first.salt
    assert chat.pages.found(chat.request) == 0


def test_a_follow_up_whose_conversation_was_evicted_is_blended_for_itself() -> None:
    chat = Chat(num_blocks=8)
    first = chat.ask(QUESTION)
    chat.answer()
    chat.ask(OTHER)
    chat.answer()  # there is room for one of them
    assert chat.ask([*QUESTION, 7]).salt != first.salt


def test_the_same_request_has_the_same_salt_whether_its_rows_are_there_or_not() -> None:
    chat = Chat()
    first = chat.ask(QUESTION)
    assert chat.ask(QUESTION) == first
    chat.answer()
    assert chat.ask(QUESTION) == Origin(first.salt, is_found=True)
    assert Chat().ask(QUESTION) == first


def test_rows_that_went_between_being_found_and_taken_leave_a_salt_that_nobody_else_has() -> None:
    chat = Chat()
    first = chat.ask(QUESTION)
    lost = chat.lineage.lost(chat.request)
    assert lost.salt == chat.request.cache_salt != first.salt
    assert chat.lineage.lost(chat.request).salt != lost.salt


@pytest.mark.parametrize(("sharing", "sees_suffix"), [(Sharing.AS_IS, True), (Sharing.NO, False)])
def test_rows_that_serve_every_question_have_one_salt(sharing: Sharing, sees_suffix: bool) -> None:
    chat = Chat(sharing)
    assert chat.ask(QUESTION, sees_suffix=sees_suffix) == chat.ask(OTHER, sees_suffix=sees_suffix)


def test_another_question_is_topped_up_from_what_the_workers_keep() -> None:
    chat = Chat(Sharing.TOPPED_UP)
    first = chat.ask(QUESTION)
    assert first.onto is None and first.keep_as is not None
    chat.lineage.kept.add(first.keep_as, 60)
    second, third = chat.ask(OTHER), chat.ask(OTHER)
    assert second.onto == second.keep_as == first.keep_as
    # What it is topped up from may have changed meanwhile: neither may find rows of the other.
    assert len({first.salt, second.salt, third.salt}) == 3
    chat.answer()
    assert chat.ask(OTHER) == Origin(third.salt, is_found=True)


def test_kept_blends_stay_within_their_budget_and_the_least_recently_used_goes() -> None:
    chat = Chat(Sharing.TOPPED_UP, kept_bytes=100)
    names = []
    for first_id in (100, 200, 300):
        chunk = make_record("m", (), tuple(range(first_id, first_id + 70)))
        origin = chat.ask(QUESTION, chunk=chunk)
        assert origin.keep_as is not None
        names.append(origin.keep_as)
        if len(names) < 3:
            chat.lineage.kept.add(origin.keep_as, 45)
    assert chat.ask(OTHER).onto == names[0]  # used: the second is the oldest now
    chat.lineage.kept.add(names[2], 45)
    assert chat.lineage.kept.pop_dropped() == (names[1],)
    assert chat.lineage.kept.pop_dropped() == ()
    chat.lineage.kept.add(names[1], 101)
    assert set(chat.lineage.kept.pop_dropped()) == set(names)


def test_rows_that_could_not_be_kept_are_not_built_upon() -> None:
    chat = Chat(Sharing.TOPPED_UP)
    first = chat.ask(QUESTION)
    assert first.keep_as is not None
    chat.lineage.kept.add(first.keep_as, 60)
    chat.lineage.kept.add(first.keep_as, 0)  # topped up in the pages only
    assert chat.ask(OTHER).onto is None


def test_what_is_remembered_is_bounded() -> None:
    chat = Chat()
    first = chat.ask(QUESTION)
    chat.answer()
    for number in range(MAX_TURNS):
        chat.ask([50 + number])
    assert chat.ask([*QUESTION, 7]).salt != first.salt
