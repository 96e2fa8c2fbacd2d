"""A prompt in pieces is the prompt that the engine would answer."""

import pytest
from transformers import PreTrainedTokenizerFast

from bench.fidelity.question import CUE, DEFAULT_PREFIX, LabPrompt, Question, build_prompt
from blend.errors import RequestError
from blend.text.frame import SEPARATOR, ChatFrame
from blend.text.pieces import PieceTokenizer
from tests.blend.text.conftest import EXACT
from tests.blend.text.test_frame import CHATML, make

PASSAGES = ("Keys\nKeys are rotated.", "Values are not.", "x")
QUESTION = Question("nq-7", "What is rotated?", ("keys",), PASSAGES, ("Some other passage.", "One more."))


@pytest.fixture(params=[*sorted(EXACT), "chat"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return make(CHATML) if request.param == "chat" else EXACT[request.param]()


def build(
    tokenizer: PreTrainedTokenizerFast, question: Question = QUESTION, first: bool = False
) -> LabPrompt:
    return build_prompt(ChatFrame(tokenizer), PieceTokenizer(tokenizer), question, question_first=first)


@pytest.mark.parametrize("first", [False, True])
def test_the_pieces_make_up_the_rendered_prompt(tokenizer: PreTrainedTokenizerFast, first: bool) -> None:
    frame = ChatFrame(tokenizer)
    before = f"Question: {QUESTION.question}{SEPARATOR}" if first else ""
    tail = frame.tail(CUE if first else QUESTION.question)
    text = frame.head(DEFAULT_PREFIX) + before + SEPARATOR.join(PASSAGES) + tail
    ids = build(tokenizer, first=first).prompt_ids
    assert tokenizer.decode(ids[1:] if ids[0] == tokenizer.bos_token_id else ids) == text


@pytest.mark.parametrize("first", [False, True])
def test_chunks_stand_where_they_are_said_to_start(tokenizer: PreTrainedTokenizerFast, first: bool) -> None:
    prompt = build(tokenizer, first=first)
    ids = prompt.prompt_ids
    for start, chunk in zip(prompt.starts, prompt.chunks, strict=True):
        assert ids[start : start + len(chunk)] == chunk
    assert ids[prompt.context_tokens :] == prompt.suffix_ids
    assert prompt.starts[0] == len(prompt.prefix_ids) + len(prompt.before_ids)


def test_the_question_stands_before_the_documents_only_when_asked_to() -> None:
    tokenizer = make(CHATML)
    behind, before = build(tokenizer), build(tokenizer, first=True)
    assert behind.prefix_ids == before.prefix_ids and behind.chunks == before.chunks
    assert not behind.before_ids and QUESTION.question in tokenizer.decode(behind.suffix_ids)
    assert QUESTION.question in tokenizer.decode(before.before_ids)
    assert QUESTION.question not in tokenizer.decode(before.suffix_ids)


def test_wrong_chunks_fit_in_the_places_of_the_right_ones(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = build(tokenizer)
    assert [len(chunk) for chunk in prompt.wrong_chunks] == [len(chunk) for chunk in prompt.chunks]
    wrong = PieceTokenizer(tokenizer).encode(QUESTION.wrong_passages[0])
    both = min(len(wrong), len(prompt.chunks[0]))
    assert prompt.wrong_chunks[0][:both] == tuple(wrong[:both])
    assert not set(prompt.wrong_chunks) & set(prompt.chunks)


@pytest.mark.parametrize(("right", "wrong"), [((), ("b",)), (("a",), ()), (("a", ""), ("b",))])
def test_a_question_without_text_to_read_is_refused(right: tuple[str, ...], wrong: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match="question q: got"):
        build(make(None), Question("q", "Why?", ("a",), right, wrong))
