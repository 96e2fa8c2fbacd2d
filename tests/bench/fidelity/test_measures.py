"""Distances between two answers: agreement, catastrophes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.fidelity.measures import CATASTROPHIC_KL, greedy_agreement, is_catastrophic, match_length
from blend.maths.kl import kl_per_token

SEEDS = st.integers(0, 2**31)


def drawn(seed: int, num_tokens: int = 3, vocab_size: int = 11, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(num_tokens, vocab_size, generator=generator)).log_softmax(dim=1)


@given(SEEDS)
def test_a_distribution_is_at_no_distance_from_itself(seed: int) -> None:
    full = drawn(seed)
    assert kl_per_token(full, full).tolist() == [0.0, 0.0, 0.0]
    assert not is_catastrophic(full, full)
    assert match_length(greedy_agreement(full.argmax(dim=1).tolist(), full)) == 3


@given(st.lists(st.booleans(), min_size=1))
def test_the_match_ends_at_the_first_disagreement(agreement: list[bool]) -> None:
    length = match_length(torch.tensor(agreement))
    assert all(agreement[:length])
    assert length == len(agreement) or not agreement[length]


def test_the_fifth_most_likely_token_is_no_catastrophe_and_the_sixth_is_one() -> None:
    full = torch.tensor([[0.22, 0.18, 0.16, 0.14, 0.12, 0.10, 0.08]]).log()
    for place, expected in ((4, False), (5, True)):
        got = full.clone()
        got[0, place] = 0.0
        assert is_catastrophic(full, got.log_softmax(dim=1)) is expected


def test_a_first_token_that_is_right_by_a_hair_can_still_be_a_catastrophe() -> None:
    full = torch.tensor([[0.0, -20.0, -20.0]]).log_softmax(dim=1)
    got = torch.tensor([[0.001, 0.0, 0.0]]).log_softmax(dim=1)
    assert float(kl_per_token(full, got)[0]) < CATASTROPHIC_KL and not is_catastrophic(full, got)
    wide = torch.zeros(1, 50).index_fill(1, torch.tensor([0]), 0.001).log_softmax(dim=1)
    sure = torch.full((1, 50), -20.0).index_fill(1, torch.tensor([0]), 0.0).log_softmax(dim=1)
    assert wide.argmax() == sure.argmax() and is_catastrophic(sure, wide)


def test_only_the_first_token_counts_for_a_catastrophe() -> None:
    full, other = drawn(1), drawn(2)
    assert not is_catastrophic(full, torch.cat([full[:1], other[1:]]))
