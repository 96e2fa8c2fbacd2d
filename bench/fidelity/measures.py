"""Distances between two runs over the same answer, from their log-probabilities. Pure functions.

Axes: `A` tokens of full prefill's answer, `V` vocabulary.
"""

from collections.abc import Sequence

import torch

from blend.errors import ModelError

CATASTROPHIC_TOP = 5
CATASTROPHIC_KL = 2.0

_MASS_TOLERANCE = 0.01
"""A distribution that was cut off at its top tokens lacks more than that; float32 errs by less than 1e-4."""


def check_logprobs(logprobs: torch.Tensor, num_tokens: int, vocab_size: int) -> torch.Tensor:
    """The tensor itself when it holds one whole distribution per token.

    Args:
        logprobs: float32 [A, V].

    Raises:
        ModelError: its shape is another one, or its rows are no distributions.
    """
    if logprobs.shape != (num_tokens, vocab_size):
        raise ModelError(
            f"got log-probabilities of shape {tuple(logprobs.shape)}, expected ({num_tokens}, {vocab_size}): "
            "one row for each token of the answer"
        )
    off = (logprobs.double().exp().sum(dim=1) - 1).abs()
    if not bool((off < _MASS_TOLERANCE).all()):  # also catches NaN
        raise ModelError(
            f"got rows of probabilities that add up to 1 +- {off.max():.3g}, expected whole distributions; "
            "the model's numbers are broken, or only its top tokens were given"
        )
    return logprobs


def kl_per_token(full: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """KL divergence of each token's distribution from full prefill's, in nats.

    Args:
        full, got: float32 [A, V], log-probabilities.

    Returns:
        float64 [A], never negative; infinite where `got` excludes a token that `full` allows.

    >>> half = torch.tensor([[0.5, 0.5]]).log()
    >>> kl_per_token(half, torch.tensor([[0.5, 0.5]]).log()).item()
    0.0
    >>> round(kl_per_token(half, torch.tensor([[0.9, 0.1]]).log()).item(), 4)
    0.5108
    """
    full, got = full.double(), got.double()
    probs = full.exp()
    terms = torch.where(probs > 0, probs * (full - got), 0.0)
    return terms.sum(dim=1).clamp(min=0)  # rounding can leave a tiny negative


def greedy_agreement(token_ids: Sequence[int], got: torch.Tensor) -> torch.Tensor:
    """Where the most likely token is the one that full prefill chose.

    Args:
        token_ids: full prefill's answer, `A` tokens.
        got: float32 [A, V], log-probabilities.

    Returns:
        bool [A].

    >>> greedy_agreement([1, 0], torch.tensor([[0.2, 0.8], [0.3, 0.7]]).log()).tolist()
    [True, False]
    """
    return got.argmax(dim=1) == torch.tensor(token_ids, device=got.device)


def match_length(agreement: torch.Tensor) -> int:
    """Tokens before the first disagreement: as long a greedy answer would be the same.

    Args:
        agreement: bool [A].

    >>> match_length(torch.tensor([True, True, False, True]))
    2
    """
    return int(agreement.int().cumprod(dim=0).sum())


def is_catastrophic(full: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether an answer begins wrong: with none of full prefill's top five tokens, or with a KL over 2.

    Args:
        full, got: float32 [A, V], log-probabilities; the first row counts.

    >>> full = torch.tensor([[0.4, 0.2, 0.15, 0.1, 0.1, 0.05]]).log()
    >>> is_catastrophic(full, full), is_catastrophic(full, full.flip(1))
    (False, True)
    """
    top = full[0].topk(min(CATASTROPHIC_TOP, full.shape[1])).indices
    return not bool((top == got[0].argmax()).any()) or float(kl_per_token(full, got)[0]) > CATASTROPHIC_KL
