"""The selectors' scores, one row of the matrix per selector, and what is particular to each."""

import pytest
import torch

from blend.chunks.chunk import make_record
from blend.errors import RequestError
from blend.plan.plan import make_plan
from blend.select import register, selector
from blend.select.base import SelectorInput
from blend.select.choose import choose

A = make_record("m", (), tuple(range(10, 16)))
B = make_record("m", (), tuple(range(30, 34)))
# 0 gap | 1 .. 6 chunk A | 7 gap | 8 .. 11 chunk B | 12 the question
PLAN = make_plan((9, *A.token_ids, 9, *B.token_ids, 9), [(1, A), (8, B)])
NUM_HEADS, HEAD_SIZE = 4, 8


def given_rows(start: int = 0) -> SelectorInput:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, PLAN.num_tokens, NUM_HEADS, HEAD_SIZE, generator=generator)
    attention = torch.rand(3, PLAN.num_tokens, generator=generator)
    return SelectorInput(PLAN, start, *(r[start:] for r in rows), attention=attention[:, start:])


EVERY = (
    *("all", "deviation", "deviation-keys", "deviation-values", "first"),
    *("last-token", "question", "question-deviation", "question-late", "random"),
)


@pytest.mark.parametrize("name", EVERY)
class TestEverySelector:
    def test_says_its_name(self, name: str) -> None:
        assert selector(name).name == name

    def test_says_in_words_what_it_scores_by(self, name: str) -> None:
        assert selector(name).measure

    def test_is_one_instance(self, name: str) -> None:
        assert selector(name) is selector(name)

    @pytest.mark.parametrize("start", [0, 3, 12])
    def test_scores_each_row_that_is_blended(self, name: str, start: int) -> None:
        scores = selector(name).score(given_rows(start))
        assert scores.dtype == torch.float32
        assert scores.shape == (PLAN.num_tokens - start,)

    def test_scores_the_same_twice(self, name: str) -> None:
        assert torch.equal(selector(name).score(given_rows()), selector(name).score(given_rows()))


def test_an_unknown_selector_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(
        RequestError, match="got selector 'devation', expected one of: all, deviation, deviation-keys,"
    ):
        selector("devation")


def test_a_registered_name_can_be_given_another_class() -> None:
    register("mine", "blend.select.first:First")
    assert selector("mine").name == "first"
    register("mine", "blend.select.all:All")
    assert selector("mine").name == "all"


def test_deviation_is_zero_where_cached_rows_are_right() -> None:
    rows = given_rows()
    right = SelectorInput(PLAN, 0, rows.fresh_keys, rows.fresh_values, rows.fresh_keys, rows.fresh_values)
    assert torch.equal(selector("deviation").score(right), torch.zeros(PLAN.num_tokens))


@pytest.mark.parametrize("wrong", ["cached_keys", "cached_values"])
def test_deviation_ranks_by_distance_of_keys_and_of_values(wrong: str) -> None:
    rows = given_rows()
    cached = {"cached_keys": rows.fresh_keys.clone(), "cached_values": rows.fresh_values.clone()}
    for distance, row in enumerate([5, 2, 9], start=1):
        cached[wrong][row] += distance
    scores = selector("deviation").score(SelectorInput(PLAN, 0, rows.fresh_keys, rows.fresh_values, **cached))
    assert scores.argsort(descending=True)[:3].tolist() == [9, 2, 5]


def test_deviation_lets_large_keys_not_drown_values() -> None:
    rows = given_rows()
    plain = selector("deviation").score(rows)
    scaled = SelectorInput(
        PLAN, 0, 100 * rows.fresh_keys, rows.fresh_values, 100 * rows.cached_keys, rows.cached_values
    )
    torch.testing.assert_close(selector("deviation").score(scaled), plain)


def test_deviation_is_the_same_on_every_rank_that_holds_some_of_the_heads() -> None:
    whole = given_rows()
    tensors = (whole.fresh_keys, whole.fresh_values, whole.cached_keys, whole.cached_values)
    shards = [[t[:, heads] for t in tensors] for heads in (slice(0, 1), slice(1, 4))]
    partials: list[torch.Tensor] = []

    def remember(partial: torch.Tensor) -> torch.Tensor:
        partials.append(partial)
        return partial

    for shard in shards:
        selector("deviation").score(SelectorInput(PLAN, 0, *shard, reduce=remember))
    total = sum(partials)
    on_ranks = [
        selector("deviation").score(SelectorInput(PLAN, 0, *shard, reduce=lambda _: total))
        for shard in shards
    ]
    assert torch.equal(on_ranks[0], on_ranks[1])
    torch.testing.assert_close(on_ranks[0], selector("deviation").score(whole))


def test_first_takes_as_many_tokens_of_each_chunk() -> None:
    scores = selector("first").score(SelectorInput(PLAN, 0))
    cold = torch.tensor([p in (0, 7) for p in range(PLAN.num_tokens)])
    assert choose(PLAN, 0, scores, cold, 6 / 12).tolist() == [0, 1, 2, 7, 8, 9]


def test_first_counts_from_the_chunk_not_from_the_row_that_the_blend_starts_at() -> None:
    scores = selector("first").score(SelectorInput(PLAN, 3))
    assert scores.tolist() == [-2, -3, -4, -5, 0, 0, -1, -2, -3]


def test_all_recomputes_everything_at_any_ratio() -> None:
    scores = selector("all").score(SelectorInput(PLAN, 2))
    assert choose(PLAN, 2, scores, torch.zeros(10, dtype=torch.bool), 0.0).tolist() == list(range(2, 12))


def test_deviation_of_keys_and_of_values_add_up() -> None:
    inputs = given_rows()
    parts = [selector(name).score(inputs) for name in ("deviation-keys", "deviation-values")]
    torch.testing.assert_close(sum(parts), selector("deviation").score(inputs))


def test_question_attention_is_the_mean_over_the_suffix_and_the_last_tokens_its_last_row() -> None:
    inputs = given_rows()
    assert inputs.attention is not None
    for name in ("question", "question-late"):
        torch.testing.assert_close(selector(name).score(inputs), inputs.attention.mean(0))
    torch.testing.assert_close(selector("last-token").score(inputs), inputs.attention[-1])


def test_without_a_suffix_nobody_looks_at_anything() -> None:
    inputs = SelectorInput(PLAN, 0, attention=torch.zeros(0, PLAN.num_tokens))
    assert not selector("question-late").score(inputs).any()
    assert not selector("last-token").score(inputs).any()


def test_question_times_deviation_is_zero_where_either_is() -> None:
    inputs = given_rows()
    assert inputs.attention is not None and inputs.cached_values is not None
    inputs.attention[:, 2] = 0
    inputs.cached_values[5] = inputs.fresh_values[5]  # type: ignore[index]
    scores = selector("question-deviation").score(inputs)
    assert scores[2] == scores[5] == 0 and scores.count_nonzero() == len(scores) - 2
