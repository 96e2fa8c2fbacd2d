"""A question with its passages, and the prompt that is made of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, islice

from blend.errors import RequestError
from blend.text.frame import SEPARATOR, ChatFrame
from blend.text.pieces import PieceTokenizer

DEFAULT_PREFIX = "Answer the question from the documents. Be brief."
CUE = "Answer the question above."
"""What stands behind the documents when the question stands before them."""

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a data file.

    Attributes:
        key: tells it from the other questions of the same data.
        answers: gold answers, any of which is right; one at least.
        passages: one chunk each, in the order they are to stand; none begins with whitespace.
        wrong_passages: passages of other questions, none of them among `passages`.
    """

    key: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[str, ...]
    wrong_passages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabPrompt:
    """A prompt in pieces of token ids.

    ::

        | prefix | before | chunk 0 | separator | chunk 1 | ... | chunk K - 1 | suffix |

    Attributes:
        key: the question's.
        before_ids: a gap in front of the first chunk, for a question that comes first; empty otherwise.
        suffix_ids: everything behind the last chunk.
        answers: gold answers.
        wrong_chunks: tokens of other questions' passages; each as long as the chunk in whose place its KV
            is put for the floor.
    """

    key: str
    prefix_ids: Ids
    chunks: tuple[Ids, ...]
    separator_ids: Ids
    before_ids: Ids
    suffix_ids: Ids
    answers: tuple[str, ...]
    wrong_chunks: tuple[Ids, ...]

    @property
    def starts(self) -> Ids:
        """Position of each chunk's first token."""
        first = len(self.prefix_ids) + len(self.before_ids)
        steps = (len(chunk) + len(self.separator_ids) for chunk in self.chunks[:-1])
        return tuple(accumulate(steps, initial=first))

    @property
    def context_tokens(self) -> int:
        """Tokens up to the end of the last chunk."""
        return self.starts[-1] + len(self.chunks[-1])

    @property
    def prompt_ids(self) -> Ids:
        """The whole prompt."""
        ids = [*self.prefix_ids, *self.before_ids]
        for number, chunk in enumerate(self.chunks):
            ids += self.separator_ids if number else ()
            ids += chunk
        return (*ids, *self.suffix_ids)


def build_prompt(
    frame: ChatFrame,
    pieces: PieceTokenizer,
    question: Question,
    *,
    prefix: str = DEFAULT_PREFIX,
    question_first: bool = False,
) -> LabPrompt:
    """The prompt that the engine would answer, in pieces.

    Args:
        frame, pieces: of the model's own tokenizer.
        prefix: the instruction before the documents.
        question_first: the question stands before the documents, and only a cue behind them.

    Raises:
        RequestError: the question has no passages, right or wrong, or one of them is empty.
    """
    chunks = _encode(pieces, question.key, question.passages)
    wrong = _encode(pieces, question.key, question.wrong_passages)
    before = f"Question: {question.question}{SEPARATOR}" if question_first else ""
    tail = frame.tail(CUE if question_first else question.question)
    return LabPrompt(
        key=question.key,
        prefix_ids=tuple(pieces.encode_start(frame.head(prefix), frame.add_special_tokens)),
        chunks=chunks,
        separator_ids=tuple(pieces.encode(SEPARATOR)),
        before_ids=tuple(pieces.encode_markup(before)),
        suffix_ids=tuple(pieces.encode_markup(tail)),
        answers=question.answers,
        wrong_chunks=tuple(_as_long_as(chunks, wrong)),
    )


def _encode(pieces: PieceTokenizer, key: str, passages: Sequence[str]) -> tuple[Ids, ...]:
    encoded = tuple(tuple(pieces.encode(passage)) for passage in passages)
    if not encoded or not all(encoded):
        raise RequestError(
            f"question {key}: got {len(encoded)} passages, {sum(not ids for ids in encoded)} of them empty; "
            "expected one at least, right ones and wrong ones, and none empty"
        )
    return encoded


def _as_long_as(chunks: Sequence[Ids], wrong: Sequence[Ids]) -> Iterator[Ids]:
    """One wrong chunk per chunk: wrong passage i, cut, or gone on with from the following passages."""
    for i, chunk in enumerate(chunks):
        endless = (token for j in count(i) for token in wrong[j % len(wrong)])
        yield tuple(islice(endless, len(chunk)))
