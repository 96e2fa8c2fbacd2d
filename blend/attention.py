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
    num_kv_heads = keys.shape[1]
    by_group = (queries.float() * scale).reshape(num_tokens, num_kv_heads, -1, head_size).permute(1, 2, 0, 3)
    # One product per key head: a broadcast over the query heads that share it would copy the keys for each.
    folded = by_group.reshape(num_kv_heads, -1, head_size)  # [H, Hq / H * P, D]
    scores = torch.bmm(folded, keys.float().permute(1, 2, 0)).view(num_heads, num_tokens, -1)  # [Hq, P, M]
    if soft_cap:
        scores = (scores / soft_cap).tanh() * soft_cap
    return scores.masked_fill_(~visible, -torch.inf).softmax(dim=-1)


def mix(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What the weights take out of the values.

    Args:
        weights: float32 [Hq, P, M], from `weigh`.
        values: [M, H, D].

    Returns:
        [P, Hq, D], in the values' dtype.
    """
    num_heads, num_tokens, num_rows = weights.shape
    folded = weights.reshape(values.shape[1], -1, num_rows)  # [H, Hq / H * P, M]
    mixed = torch.bmm(folded, values.float().transpose(0, 1))  # [H, Hq / H * P, D]
    return mixed.reshape(num_heads, num_tokens, -1).transpose(0, 1).to(values.dtype)
