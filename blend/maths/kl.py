"""KL divergence between two runs over the same answer, from their log-probabilities. Pure functions.

Axes: `A` tokens of full prefill's answer, `V` vocabulary.
"""

import torch

from blend.errors import ModelError

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
