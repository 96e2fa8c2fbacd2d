"""Distances between two runs over the same answer, from their log-probabilities. Pure functions.

Axes: `A` tokens of full prefill's answer, `V` vocabulary.
"""

from collections.abc import Sequence

import torch

from blend.maths.kl import kl_per_token

CATASTROPHIC_TOP = 5
CATASTROPHIC_KL = 2.0


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
