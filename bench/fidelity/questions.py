"""Data files become questions: one JSON object a line, gzipped or not, of one of three kinds.

nq       question, answers, title, text     one passage that answers; the others are drawn from other rows
musique  question, answers, ctxs            passages of its own, several of them needed
kv       ordered_kv_records, key, value     find one value among many records
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

from bench.fidelity.question import Question
from blend.errors import RequestError
from blend.text.frame import SEPARATOR

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file's questions.

    Attributes:
        digest: SHA-256 of the file's bytes.
    """

    name: str
    digest: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """What a row says, before passages of other rows join it."""

    kind: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[str, ...]


def read_questions(
    path: Path, *, num: int, skip: int = 0, passages: int = 8, join: int = 1, seed: int = 0
) -> DataFile:
    """Questions of a file; a row gives the same one whatever `num` and `skip` are.

    Args:
        num: most questions.
        skip: rows left out at the start.
        passages: of each question. A row that has fewer gets passages of other rows, all in a seeded random
            order; one that has more keeps those that hold an answer, then its first ones, in their order.
        join: so many passages of the file make up one of a question's, with a separator between them.
        seed: of what is drawn.

    Raises:
        RequestError: the file cannot be read, its rows are of no known kind, or there are too few.
    """
    content = _content(path)
    wanted = passages * join
    rows = [_row(path, number, line, wanted) for number, line in _lines(path, content)]
    questions = [_question(rows, i, wanted, seed) for i in range(len(rows))[skip : skip + num]]
    if not questions or any(len(question.wrong_passages) < wanted for question in questions):
        raise RequestError(
            f"{path}: got {len(rows)} rows, {skip} of them to skip; expected one at least that is left, and "
            f"others with passages enough for {wanted} right and {wanted} wrong ones; give a longer file"
        )
    joined = tuple(_joined(question, join) for question in questions)
    return DataFile(path.name, hashlib.sha256(content).hexdigest(), joined)


def read_passages(path: Path) -> list[tuple[str | None, str]]:
    """Passages of a file of rows with title and text, each with its question where the row has one.

    Raises:
        RequestError: the file cannot be read, or a row has no title and text.
    """
    rows: list[tuple[str | None, str]] = []
    for number, line in _lines(path, _content(path)):
        try:
            data = dict(json.loads(line))
            rows.append((data.get("question"), _passage(data)))
        except (ValueError, TypeError, KeyError) as error:
            raise RequestError(
                f"{path}, line {number}: expected an object with title and text, got {error!r}"
            ) from error
    return rows


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the data file {path}: {error.strerror}") from error


def _lines(path: Path, content: bytes) -> list[tuple[int, str]]:
    try:
        text = (gzip.decompress(content) if content.startswith(_GZIP) else content).decode()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RequestError(f"{path} is no text of JSON lines, nor gzipped text: {error}") from error
    # Not splitlines: text inside a row may hold other characters that it takes for line ends.
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _row(path: Path, number: int, line: str, num_passages: int) -> _Row:
    try:
        data: dict[str, Any] = dict(json.loads(line))
        read = next((read for keys, read in _KINDS.items() if keys <= set(data)), None)
        row = read(data, num_passages) if read else None
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{path}, line {number}: expected a row of questions, got {error!r}") from error
    if row is None:
        expected = "; ".join(", ".join(sorted(keys)) for keys in _KINDS)
        raise RequestError(
            f"{path}, line {number}: got keys {', '.join(map(str, data))}; "
            f"expected those of one kind: {expected}"
        )
    if not (row.question.strip() and row.answers and row.passages and all(row.passages)):
        raise RequestError(f"{path}, line {number}: got an empty question, answer or passage, expected text")
    return row


def _nq(data: Mapping[str, Any], num_passages: int) -> _Row:
    return _Row("nq", str(data["question"]), _answers(data), (_passage(data),))


def _musique(data: Mapping[str, Any], num_passages: int) -> _Row:
    passages = tuple(_passage(context) for context in data["ctxs"])
    return _Row("musique", str(data["question"]), _answers(data), passages)


def _kv(data: Mapping[str, Any], num_passages: int) -> _Row:
    lines = [json.dumps({key: value}) for key, value in data["ordered_kv_records"]]
    edges = [len(lines) * i // num_passages for i in range(num_passages + 1)]
    passages = tuple("\n".join(lines[a:b]) for a, b in pairwise(edges) if a < b)
    return _Row("kv", f'What is the value of the key "{data["key"]}"?', (str(data["value"]),), passages)


_KINDS: dict[frozenset[str], Callable[[Mapping[str, Any], int], _Row]] = {
    frozenset({"question", "answers", "title", "text"}): _nq,
    frozenset({"question", "answers", "ctxs"}): _musique,
    frozenset({"ordered_kv_records", "key", "value"}): _kv,
}


def _answers(data: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(answer) for answer in data["answers"])


def _passage(data: Mapping[str, str]) -> str:
    """Title and text; an empty title makes no line.

    >>> _passage({"title": "", "text": " Rome is old. "})
    'Rome is old.'
    """
    return f"{data['title']}\n{data['text']}".strip()


def _question(rows: Sequence[_Row], index: int, num_passages: int, seed: int) -> Question:
    row = rows[index]
    random = Random(f"{seed} {index}")
    own = _cut(row, num_passages)
    strangers = _strangers(rows, index, random)
    passages = [*own, *islice(strangers, num_passages - len(own))]
    if len(passages) > len(own):
        random.shuffle(passages)
    wrong = tuple(islice(strangers, num_passages))
    return Question(f"{row.kind}-{index}", row.question, row.answers, tuple(passages), wrong)


def _joined(question: Question, num: int) -> Question:
    """The same with so many passages in each one's place."""

    def together(passages: Sequence[str]) -> tuple[str, ...]:
        return tuple(SEPARATOR.join(passages[i : i + num]) for i in range(0, len(passages), num))

    return replace(
        question,
        passages=together(question.passages),
        wrong_passages=together(question.wrong_passages),
    )


def _cut(row: _Row, num: int) -> list[str]:
    def lacks_answer(place: int) -> bool:
        text = row.passages[place].lower()
        return not any(answer.lower() in text for answer in row.answers)

    kept = sorted(range(len(row.passages)), key=lacks_answer)[:num]  # a stable sort keeps the order otherwise
    return [row.passages[place] for place in sorted(kept)]


def _strangers(rows: Sequence[_Row], index: int, random: Random) -> Iterator[str]:
    """Passages of other rows in a random order, none of this row's, none twice."""
    seen = set(rows[index].passages)
    others = [i for i in range(len(rows)) if i != index]
    random.shuffle(others)
    for other in others:
        for passage in rows[other].passages:
            if passage not in seen:
                seen.add(passage)
                yield passage
