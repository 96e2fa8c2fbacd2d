"""KL divergence between distributions: algebra, limits, and what is no distribution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blend.errors import ModelError
from blend.maths.kl import check_logprobs, kl_per_token

SEEDS = st.integers(0, 2**31)


def drawn(seed: int, num_tokens: int = 3, vocab_size: int = 11, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(num_tokens, vocab_size, generator=generator)).log_softmax(dim=1)


@given(SEEDS, SEEDS)
def test_kl_is_never_negative_and_is_torchs(one: int, other: int) -> None:
    full, got = drawn(one), drawn(other)
    kl = kl_per_token(full, got)
    expected = torch.nn.functional.kl_div(got, full, reduction="none", log_target=True).sum(dim=1)
    assert (kl >= 0).all()
    torch.testing.assert_close(kl.float(), expected.clamp(min=0), rtol=1e-4, atol=1e-5)


def test_a_token_that_full_prefill_excludes_adds_nothing_and_one_that_only_it_allows_is_infinite() -> None:
    sure, even = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert kl_per_token(sure, even).item() == pytest.approx(0.6931, abs=1e-4)
    assert kl_per_token(even, sure).item() == float("inf")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (drawn(0)[:2], r"got log-probabilities of shape \(2, 11\), expected \(3, 11\)"),
        (drawn(0)[:, :5], "shape"),
        (drawn(0) + 0.1, "add up to 1"),
        (torch.full((3, 11), float("nan")), "add up to 1"),
        (drawn(0).masked_fill(drawn(0) < -3, -torch.inf), "only its top tokens"),
    ],
)
def test_what_is_no_whole_distribution_is_refused(broken: torch.Tensor, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_logprobs(broken, 3, 11)


def test_whole_distributions_pass() -> None:
    full = drawn(0, vocab_size=50_000)
    assert check_logprobs(full, 3, 50_000) is full
