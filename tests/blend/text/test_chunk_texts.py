"""Known chunk texts are found whole, longest first, and fast."""

import random

from hypothesis import given
from hypothesis import strategies as st

from blend.text.chunk_texts import ANCHOR_CHARS, ChunkTexts, Piece
from tests.support.yardstick import soonest_s, unit_s

FIRST = "The first chunk of a document."
LONGER = "The first chunk of a document. And more of it."
OTHER = "Another document, another chunk."


def slow_split(texts: list[str], prompt: str) -> list[Piece]:
    """The obvious twin, for texts of `ANCHOR_CHARS` characters or more."""
    pieces: list[Piece] = []
    gap = ""
    while prompt:
        found = max((text for text in texts if text and prompt.startswith(text)), key=len, default=None)
        if found is None:
            gap, prompt = gap + prompt[0], prompt[1:]
            continue
        pieces += [Piece(gap, False)] if gap else []
        pieces.append(Piece(found, True))
        gap, prompt = "", prompt[len(found) :]
    return pieces + ([Piece(gap, False)] if gap else [])


@given(st.data())
def test_it_splits_as_the_obvious_twin_does(data: st.DataObject) -> None:
    word = st.text("ab", min_size=ANCHOR_CHARS, max_size=ANCHOR_CHARS + 3)
    texts = data.draw(st.lists(word, max_size=6))
    part = st.sampled_from([*texts, "a", "b", "ab"])
    prompt = "".join(data.draw(st.lists(part, max_size=12)))
    pieces = ChunkTexts(texts).split(prompt)
    assert pieces == slow_split(texts, prompt)
    assert "".join(piece.text for piece in pieces) == prompt


def test_the_longest_of_several_that_begin_alike_wins() -> None:
    texts = ChunkTexts([FIRST, LONGER])
    assert texts.split(LONGER) == [Piece(LONGER, True)]
    assert texts.split(FIRST + " And less.") == [Piece(FIRST, True), Piece(" And less.", False)]


def test_the_same_chunk_twice_and_chunks_side_by_side() -> None:
    assert ChunkTexts([FIRST, OTHER]).split(FIRST + FIRST + OTHER) == [
        Piece(FIRST, True),
        Piece(FIRST, True),
        Piece(OTHER, True),
    ]


def test_a_chunk_that_is_all_but_there_is_not_found() -> None:
    assert ChunkTexts([FIRST]).split(FIRST[:-1] + "!") == [Piece(FIRST[:-1] + "!", False)]


def test_a_chunk_that_begins_in_whitespace_is_cut_there() -> None:
    chunk = "  an indented chunk of code"
    assert ChunkTexts([chunk]).split("x " + chunk) == [Piece("x ", False), Piece(chunk, True)]


def test_short_texts_count_only_as_whole_lines() -> None:
    texts = ChunkTexts(["user", "Yes\nNo", FIRST])
    template = "<|im_start|>user\nIs a superuser a user\nor not?"
    assert texts.split(template) == [Piece(template, False)]
    assert texts.split("a\n\nuser\n\nYes\nNo") == [
        Piece("a\n\n", False),
        Piece("user", True),
        Piece("\n\n", False),
        Piece("Yes\nNo", True),
    ]


def test_nothing_known_and_nothing_asked() -> None:
    assert ChunkTexts().split("text") == [Piece("text", False)]
    assert ChunkTexts(["", ""]).split("") == []
    assert len(ChunkTexts([FIRST, FIRST, ""])) == 1


def test_ten_thousand_chunks_and_a_long_prompt_take_milliseconds() -> None:
    rng = random.Random(0)
    words = [f"w{rng.randrange(5000)}" for _ in range(400_000)]
    chunks = [" ".join(words[i : i + 40]) for i in range(0, len(words), 40)]
    index = ChunkTexts(chunks)
    assert len(index) == 10_000
    prompt = "\n\n".join(rng.sample(chunks, 6)) + "".join(rng.choices("abcdef \n", k=18_600))
    assert sum(piece.is_chunk for piece in index.split(prompt)) == 6
    assert soonest_s(lambda: index.split(prompt)) < 10 * unit_s(), "about one unit"


@given(st.data())
def test_texts_that_are_added_later_count_as_those_that_were_there(data: st.DataObject) -> None:
    word = st.text("ab", min_size=1, max_size=ANCHOR_CHARS + 2)
    first, later = data.draw(st.lists(word, max_size=4)), data.draw(st.lists(word, max_size=4))
    prompt = "\n".join(data.draw(st.lists(st.sampled_from([*first, *later, "a"]), max_size=8)))
    before = ChunkTexts(first)
    both, together = before.plus(later), ChunkTexts([*first, *later])
    assert (len(both), both.split(prompt)) == (len(together), together.split(prompt))
    assert before.split(prompt) == ChunkTexts(first).split(prompt)
