"""Chunks: never too large, nothing lost, well filled."""

import random
import string
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from precompute.splitter import split
from precompute.suffixes import LANGUAGES

WORDS = ["".join(random.Random(i).choices(string.ascii_lowercase, k=1 + i % 9)) for i in range(400)]


def prose(num_words: int, seed: int = 0) -> str:
    """Sentences in paragraphs of uneven length."""
    rng, text = random.Random(seed), ""
    for word in rng.choices(WORDS, k=num_words):
        text += word + rng.choices([" ", ". ", ".\n", ".\n\n"], [30, 4, 1, 0.5])[0]
    return text


def markdown(num_words: int) -> str:
    """Sections of uneven length, with headings."""
    rng, text = random.Random(1), ""
    for section in range(num_words // 40):
        text += f"\n{'#' * rng.randint(1, 3)} Section {section}\n\n{prose(rng.randint(5, 90), section)}\n"
    return text


def byte_level_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([prose(3000), markdown(2000)], trainer)
    return tokenizer


TOKENIZER = byte_level_bpe()


def count(text: str) -> int:
    return len(TOKENIZER.encode(text).ids)


def squeezed(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=40, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=400),
        st.lists(
            st.sampled_from(
                ["\n\n", "\n", " ", "# ", "```\n", "def f", "\nclass ", "word", ". ", "é", "字。"]
            )
        ).map("".join),
    ),
    suffix=st.sampled_from([*LANGUAGES, ".txt", "", ".MD"]),
    chunk_tokens=st.integers(16, 40),
)
@example(text="a" * 2000, suffix=".txt", chunk_tokens=16)
@example(text="字" * 500, suffix=".md", chunk_tokens=16)
@example(text="x $y$ $$z$$ " * 60, suffix=".tex", chunk_tokens=16)
def test_no_chunk_is_too_large_and_only_white_space_is_lost(
    text: str, suffix: str, chunk_tokens: int
) -> None:
    chunks = split(text, suffix, chunk_tokens, count)
    assert all(0 < count(chunk) <= chunk_tokens for chunk in chunks)
    assert all(chunk == chunk.strip() for chunk in chunks)
    assert squeezed("".join(chunks)) == squeezed(text)
    position = 0
    for chunk in chunks:  # each stands in the text as it is, in this order
        position = text.index(chunk, position) + len(chunk)


@settings(max_examples=30, deadline=None)
@given(text=st.text(alphabet="ab \n", max_size=300))
def test_counts_that_do_not_add_up_are_no_way_around_the_limit(text: str) -> None:
    def perverse(piece: str) -> int:
        """Two pieces together are far more than their sum."""
        return len(piece) ** 2 // 8

    assert all(perverse(chunk) <= 32 for chunk in split(text, ".txt", 32, perverse))


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".txt", prose(4000)), (".md", markdown(4000)), (".txt", prose(4000).replace(" ", "_"))],
)
def test_chunks_are_well_filled(suffix: str, text: str) -> None:
    sizes = [count(chunk) for chunk in split(text, suffix, 256, count)]
    assert len(sizes) > 10
    assert sum(sizes[:-1]) / len(sizes[:-1]) > 0.7 * 256
    assert all(
        one + other > 0.9 * 256 for one, other in pairwise(sizes)
    )  # no two neighbours that would fit together


def test_markdown_is_cut_at_headings_where_that_fits() -> None:
    text = "\n".join(f"## Part {i}\n\n{prose(60, i)}" for i in range(6))
    chunks = split(text, ".md", max(count(part) for part in text.split("## ")) + 10, count)
    assert len(chunks) >= 5
    assert all(chunk.startswith("## Part") for chunk in chunks)


def test_a_small_text_is_one_chunk_and_an_empty_one_none() -> None:
    assert split("  Just this.\n", ".md", 64, count) == ["Just this."]
    assert split(" \n ", ".txt", 64, count) == []


def test_a_character_that_fits_in_no_chunk() -> None:
    with pytest.raises(ValueError, match="takes 99 tokens, expected at most 16"):
        split("x", ".txt", 16, lambda text: 99)
