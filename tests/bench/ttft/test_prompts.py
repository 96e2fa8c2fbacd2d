"""Prompts have exactly the tokens that were asked for, and none is seen twice."""

import pytest

from bench.ttft.case import Case
from bench.ttft.prompts import PREFIX, PromptMaker, Texts, built_in_texts, pool_size
from blend.text.frame import SEPARATOR, ChatFrame
from tests.blend.text.conftest import byte_level


@pytest.mark.parametrize("num_tokens", [1, 7, 128, 1024])
def test_chunks_and_questions_have_exactly_so_many_tokens(maker: PromptMaker, num_tokens: int) -> None:
    pool = maker.pool(5, num_tokens)
    assert {len(chunk) for chunk in pool} == {num_tokens}
    assert len(maker.question(num_tokens)) == num_tokens


def test_chunks_differ_and_a_larger_pool_begins_with_the_smaller(maker: PromptMaker) -> None:
    pool = maker.pool(20, 64)
    assert len(set(pool)) == 20
    assert maker.pool(8, 64) == pool[:8]


def test_the_seed_decides() -> None:
    def first(seed: int) -> list[tuple[int, ...]]:
        return PromptMaker(byte_level(add_prefix_space=False), built_in_texts(), seed).pool(2, 256)

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_a_prompt_reads_as_the_engine_would_have_made_it(maker: PromptMaker) -> None:
    tokenizer = byte_level(add_prefix_space=False)
    chunks, question = maker.pool(2, 40), maker.question(30)
    prompt = maker.prompt(chunks, question)
    frame = ChatFrame(tokenizer)
    texts = [tokenizer.decode(ids) for ids in (*chunks, question)]
    wanted = frame.head(PREFIX) + texts[0] + SEPARATOR + texts[1] + frame.tail(texts[2])
    assert tokenizer.decode(prompt.ids) == wanted
    assert prompt.context_ids[-40:] == chunks[1]
    assert len(prompt.ids) == maker.fixed_tokens + 2 * 40 + len(tokenizer.encode(SEPARATOR)) + 30


def test_a_follow_up_repeats_the_first_turn(maker: PromptMaker) -> None:
    chunks, first, second, answer = maker.pool(2, 40), maker.question(9), maker.question(9), (5, 6, 7)
    once, twice = maker.prompt(chunks, first), maker.prompt(chunks, second, [(first, answer)])
    assert twice.ids[: len(once.ids) + 3] == once.ids + answer
    assert twice.context_ids == once.context_ids


def test_no_combination_is_drawn_twice(maker: PromptMaker) -> None:
    case = Case(chunks=2, tokens=16)
    pool = maker.pool(pool_size(2, 12), 16)
    assert len(pool) == 4
    drawn = [tuple(maker.novel(case, pool)) for _ in range(12)]  # all there are
    assert len(set(drawn)) == 12
    assert all(len(set(chunks)) == 2 and set(chunks) <= set(pool) for chunks in drawn)


@pytest.mark.parametrize(("known", "num"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_what_is_not_known_is_new_each_time(maker: PromptMaker, known: float, num: int) -> None:
    case = Case(chunks=4, tokens=32, known=known)
    pool = maker.pool(6, 32)
    drawn = [maker.novel(case, pool) for _ in range(5)]
    strangers = [chunk for chunks in drawn for chunk in chunks if chunk not in pool]
    assert [sum(chunk in pool for chunk in chunks) for chunks in drawn] == [num] * 5
    assert len(set(strangers)) == 5 * (4 - num)
    assert {len(chunk) for chunk in strangers} <= {32}


def test_the_texts_of_a_data_file_are_used() -> None:
    tokenizer = byte_level(add_prefix_space=False)
    maker = PromptMaker(tokenizer, Texts("mine", ("alpha beta",), ("who goes there",)))
    assert "alpha beta" in tokenizer.decode(maker.chunk("x", 200))
    assert "who goes there" in tokenizer.decode(maker.question(200))


def test_a_pool_is_large_enough_for_all_prompts() -> None:
    assert pool_size(1, 40) == 40
    assert pool_size(2, 13) == 5
    assert pool_size(6, 1000) == 8
