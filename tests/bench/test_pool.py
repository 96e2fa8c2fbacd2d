"""Chunk texts of an exact length."""

from pathlib import Path

import pytest

from bench.pool import cut_pool, exact_chunks
from blend.errors import RequestError
from precompute.errors import PrecomputeError


def words(text: str) -> int:
    return len(text.split())


def pairs(text: str) -> int:
    """A tokenizer with a trap: a capital counts for two, so some lengths cannot be had."""
    return sum(2 if character.isupper() else 1 for character in text)


def test_chunks_do_not_overlap_and_lose_only_white_space() -> None:
    text = "  one two\n\nthree four five six seven "
    found = list(exact_chunks(text, 3, words))
    assert [words(piece) for piece in found] == [3, 3]
    assert all(piece == piece.strip() for piece in found)
    place = 0
    for piece in found:
        place = text.index(piece, place) + len(piece)


def test_a_length_that_cannot_be_had_at_one_place_is_had_at_the_next() -> None:
    assert list(exact_chunks("aaA bcd efg", 3, pairs)) == ["bcd", "efg"]


def test_the_demos_documents_are_the_default() -> None:
    found = cut_pool(None, 12, 100, words)
    assert len(set(found)) == 12 and {words(piece) for piece in found} == {100}
    assert found == cut_pool(None, 12, 100, words)


def test_the_same_chunk_counts_once_and_too_few_are_refused(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one two three four ")
    with pytest.raises(RequestError, match=r"got documents for 2 chunks of 2 tokens, expected 4: .*--pool"):
        cut_pool(tmp_path, 4, 2, words)
    with pytest.raises(PrecomputeError, match="expected a folder"):
        cut_pool(tmp_path / "none", 1, 2, words)
