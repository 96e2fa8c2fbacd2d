"""Attention in the open: what a few tokens give out of rows that are at hand, and how they weigh them.

The question probe looks at the weights, which no kernel gives away.

Axes: `P` tokens that attend, `M` rows that are attended to, `Hq` query heads, `H` key/value heads,
`D` head size.
"""

import torch


def weigh(
    queries: torch.Tensor,
    keys: torch.Tensor,
    visible: torch.Tensor,
    scale: float,
    soft_cap: float | None = None,
) -> torch.Tensor:
    """Attention weights, computed in float32.

    Args:
        queries: [P, Hq, D], rotated; query heads `i * Hq / H ..` share key head `i`.
        keys: [M, H, D], rotated.
        visible: bool [P, M]; each token sees one row at least.
        scale: factor of the scores, usually `D ** -0.5`.
        soft_cap: scores are bent into `(-soft_cap, soft_cap)`, as Gemma 2 does it.

    Returns:
        float32 [Hq, P, M]; each row sums to one.

    >>> weigh(torch.ones(1, 2, 4), torch.ones(3, 1, 4), torch.tensor([[True, True, False]]), 0.5)[0].tolist()
    [[0.5, 0.5, 0.0]]
    """
    num_tokens, num_heads, head_size = queries.shape
    by_group = queries.float().reshape(num_tokens, keys.shape[1], -1, head_size).permute(1, 2, 0, 3)
    scores = torch.matmul(by_group, keys.float().permute(1, 2, 0)[:, None]) * scale  # [H, group, P, M]
    if soft_cap:
        scores = (scores / soft_cap).tanh() * soft_cap
    weights = scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)
    return weights.reshape(num_heads, num_tokens, -1)


def mix(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What the weights take out of the values.

    Args:
        weights: float32 [Hq, P, M], from `weigh`.
        values: [M, H, D].

    Returns:
        [P, Hq, D], in the values' dtype.
    """
    num_heads, num_tokens, num_rows = weights.shape
    by_group = weights.reshape(values.shape[1], -1, num_tokens, num_rows)  # [H, group, P, M]
    mixed = torch.matmul(by_group, values.float().transpose(0, 1)[:, None])  # [H, group, P, D]
    return mixed.reshape(num_heads, num_tokens, -1).transpose(0, 1).to(values.dtype)
