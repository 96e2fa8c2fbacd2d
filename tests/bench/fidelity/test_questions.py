"""Data files become the questions that they stand for."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bench.fidelity.questions import read_questions
from blend.errors import RequestError

SHARED = Path(__file__).parents[4] / "shared" / "data"

NQ = [
    {"question": f"q {i}", "answers": [f"a{i}"], "title": f"T{i}", "text": f" a{i} text."} for i in range(20)
]
MUSIQUE = [
    {
        "question": f"q {i}",
        "answers": ["gold"],
        "ctxs": [{"title": "", "text": f"{i}.{j} {'gold' if j in (1, 4) else 'other'}"} for j in range(5)],
    }
    for i in range(4)
]
KV = [
    {
        "ordered_kv_records": [[f"k{i}-{j}", f"v{i}-{j}"] for j in range(7)],
        "key": f"k{i}-3",
        "value": f"v{i}-3",
    }
    for i in range(3)
]


def write(path: Path, rows: list[dict[str, Any]], zipped: bool = False) -> Path:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


@pytest.mark.parametrize("zipped", [False, True])
def test_a_passage_joins_others_at_a_random_place(path: Path, zipped: bool) -> None:
    data = read_questions(write(path, NQ, zipped), num=20, passages=4)
    assert [question.key for question in data.questions] == [f"nq-{i}" for i in range(20)]
    places = set()
    for i, question in enumerate(data.questions):
        assert question.answers == (f"a{i}",)
        assert len(set(question.passages)) == 4
        places.add(question.passages.index(f"T{i}\n a{i} text."))
        assert len(set(question.wrong_passages)) == 4
        assert not set(question.wrong_passages) & set(question.passages)
    assert places == {0, 1, 2, 3}


def test_passages_can_be_joined_to_longer_ones(path: Path) -> None:
    one = read_questions(write(path, NQ), num=1, passages=6).questions[0]
    joined = read_questions(path, num=1, passages=2, join=3).questions[0]
    assert joined.passages == ("\n\n".join(one.passages[:3]), "\n\n".join(one.passages[3:]))
    assert joined.wrong_passages == ("\n\n".join(one.wrong_passages[:3]), "\n\n".join(one.wrong_passages[3:]))
    with pytest.raises(RequestError, match="enough for 12 right and 12 wrong"):
        read_questions(path, num=1, passages=4, join=3)


def test_a_question_is_the_same_wherever_a_run_begins(path: Path) -> None:
    whole = read_questions(write(path, NQ), num=20, passages=4)
    part = read_questions(path, num=2, skip=5, passages=4)
    assert part.questions == whole.questions[5:7] and part.digest == whole.digest
    assert read_questions(path, num=20, passages=4, seed=1).questions != whole.questions


def test_of_too_many_passages_those_with_an_answer_stay_in_their_order(path: Path) -> None:
    question = read_questions(write(path, MUSIQUE), num=1, passages=3).questions[0]
    assert question.passages == ("0.0 other", "0.1 gold", "0.4 gold")
    whole = read_questions(path, num=1, passages=5).questions[0]
    assert [passage[:3] for passage in whole.passages] == ["0.0", "0.1", "0.2", "0.3", "0.4"]
    more = read_questions(path, num=1, passages=7).questions[0]
    assert len(set(more.passages)) == 7 and set(whole.passages) < set(more.passages)


def test_records_are_dealt_into_chunks_in_their_order(path: Path) -> None:
    question = read_questions(write(path, KV), num=1, passages=3).questions[0]
    assert [passage.count("\n") + 1 for passage in question.passages] == [2, 2, 3]
    records = {
        key: value
        for line in "\n".join(question.passages).splitlines()
        for key, value in json.loads(line).items()
    }
    assert list(records.items()) == [tuple(record) for record in KV[0]["ordered_kv_records"]]
    assert '"k0-3"' in question.question and question.answers == ("v0-3",)
    assert not any("k0-" in passage for passage in question.wrong_passages)


def test_characters_that_look_like_line_ends_stay_inside_a_row(path: Path) -> None:
    rows = [{**NQ[0], "text": "one\u2028two\x85three"}, *NQ[1:]]
    question = read_questions(write(path, rows), num=1, passages=1).questions[0]
    assert question.passages == ("T0\none\u2028two\x85three",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"query": "?", "docs": []}\n', r"line 1: got keys query, docs; expected those of one kind: "),
        (b"not json\n", "line 1: expected a row of questions"),
        (b"[1, 2]\n", "line 1: expected a row of questions"),
        (b'{"question": "q", "answers": null, "title": "", "text": "x"}\n', "line 1: expected a row"),
        (b'{"question": " ", "answers": ["a"], "title": "", "text": "x"}\n', "line 1: got an empty question"),
        (b'{"question": "q", "answers": [], "title": "", "text": "x"}\n', "line 1: got an empty question"),
        (b'{"question": "q", "answers": ["a"], "ctxs": []}\n', "line 1: got an empty question"),
        (b"\x1f\x8b broken", "no text of JSON lines"),
        (b"\xff\xfe", "no text of JSON lines"),
        (b"", "got 0 rows"),
        (json.dumps(NQ[0]).encode(), "got 1 rows, 0 of them to skip"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(RequestError, match=message):
        read_questions(path, num=5, passages=2)


def test_a_file_that_is_not_there_or_too_short_is_the_callers_fault(path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read the data file"):
        read_questions(path, num=1)
    write(path, NQ[:5])
    with pytest.raises(RequestError, match="give a longer file"):
        read_questions(path, num=1, passages=4)
    with pytest.raises(RequestError, match="5 rows, 9 of them to skip"):
        read_questions(path, num=1, skip=9, passages=1)


@pytest.mark.parametrize(
    ("name", "kind", "passages"),
    [
        ("nq_open_dev.jsonl.gz", "nq", 8),
        ("musique_dev.jsonl.gz", "musique", 14),
        ("kv_retrieval_dev.jsonl.gz", "kv", 5),
    ],
)
def test_the_shared_data_is_read(name: str, kind: str, passages: int) -> None:
    file = SHARED / name
    if not file.is_file():
        pytest.skip(f"no ../shared/data/{name} beside this repository")
    data = read_questions(file, num=30, passages=passages)
    assert [question.key for question in data.questions] == [f"{kind}-{i}" for i in range(30)]
    for question in data.questions:
        assert len(question.passages) == len(question.wrong_passages) == passages
        assert not any(passage[0].isspace() for passage in question.passages)
        if kind != "musique":  # its answers take more than one hop
            text = " ".join("\n".join(question.passages).split()).lower()
            assert any(" ".join(answer.split()).lower() in text for answer in question.answers)
