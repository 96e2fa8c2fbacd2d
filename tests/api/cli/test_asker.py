"""The two arms of a comparison are measured alike, and the first difference of their answers is weighed."""

from types import SimpleNamespace

import pytest

from api.cli.asker import LocalAsker, Question
from api.cli.compare import REPETITIONS, Parting, Reply, Token, compare
from api.server.chat.options import RagOptions
from blend.report.stats import BlendStats
from blend.vllm.engine.answer import Answer, Ask, Delta
from blend.vllm.request_params import BlendParams

LIKELIEST = {"a": -0.1, "b": -0.35, "c": -3.0}


def tokens(text: str) -> tuple[Token, ...]:
    return tuple(Token(letter, letter, LIKELIEST) for letter in text)


class Recorder:
    """An asker with given answers and times to first token, that remembers how it was asked."""

    def __init__(self, blended: str = "", full: str = "") -> None:
        self.asked: list[tuple[bool, str | None]] = []
        self.times = {True: iter([90.0, 10.0, 12.0]), False: iter([40.0, 48.0, 400.0])}
        self.texts = {True: blended, False: full}

    def ask(self, *, blend, cache_salt, show):
        self.asked.append((blend, cache_salt))
        text = self.texts[blend]
        return Reply(text, next(self.times[blend]), {"enabled": blend}, tokens(text))

    def likeliest(self, full, place):
        return full.tokens[place].likeliest


def test_arms_are_interleaved_and_share_nothing():
    asker = Recorder()
    compare(asker)
    assert [blend for blend, _ in asker.asked] == [True, False] * REPETITIONS
    salts = [salt for _, salt in asker.asked]
    assert None not in salts
    assert len(set(salts)) == len(salts)


def test_medians_are_compared_so_one_slow_repetition_changes_nothing():
    comparison = compare(Recorder())
    assert (comparison.blended.ttft_ms, comparison.full.ttft_ms) == (12.0, 48.0)
    assert comparison.speedup == 4.0
    assert comparison.full.blend == {"enabled": False}


@pytest.mark.parametrize(
    ("blended", "full", "parting"),
    [
        ("cab", "caa", (3, "b", "a", 0.25)),
        ("cad", "caa", (3, "d", "a", None)),
        ("caa", "caa", None),
        ("ca", "caa", None),
        ("", "", None),
    ],
)
def test_the_first_difference_is_weighed_by_full_prefill(blended, full, parting):
    found = compare(Recorder(blended, full)).parting
    assert (found and (found.token, found.blended, found.full)) == (parting and parting[:3])
    assert (found and found.nats) == (parting and pytest.approx(parting[3]))
    if parting:
        assert isinstance(found, Parting) and str(found).startswith("They part at token 3: ")


class Engine:
    """As much of an engine as a local asker uses; its ids are letters of the alphabet."""

    tokenizer = SimpleNamespace(decode=lambda ids: "".join(chr(97 + key) for key in ids))
    answers = {True: (2, 0, 1), False: (2, 0, 0)}  # noqa: RUF012 (not changed)

    def __init__(self) -> None:
        self.submitted: list[Ask] = []

    def stream(self, question, chunks, *, blend, cache_salt, **options):
        ids = self.answers[blend]
        yield Delta("x", Answer("x", ids, "length", 1.0, BlendStats()))

    def ask(self, question, chunks, *, blend, **options):
        return Ask((7, 8, 9), BlendParams(blend), options["max_tokens"], 0.0, None)

    def submit(self, ask):
        self.submitted.append(ask)
        return Answer("a", (0,), "length", 1.0, BlendStats(), first_logprobs={0: -0.5, 1: -0.75})


def test_a_local_engine_prefills_what_both_answers_have_in_common_and_tells_what_comes_next():
    library = SimpleNamespace(
        search=lambda *asked: [], prefix_of=lambda name: "", source_of=lambda chunk_id: None
    )
    engine = Engine()
    asker = LocalAsker(engine, library, Question("Why?", RagOptions(collection="docs"), 3))
    parting = compare(asker).parting
    assert parting == Parting(3, "b", "a", 0.25)
    [ask] = engine.submitted
    assert ask.prompt_ids == (7, 8, 9, 2, 0) and not ask.params.enabled
    assert (ask.max_tokens, ask.logprobs) == (1, 20)
