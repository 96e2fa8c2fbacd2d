"""Attention of a few tokens to rows in memory, with its weights.

The question probe needs the weights, which no attention kernel returns.

Axes: `P` tokens that attend, `M` rows that are attended to, `Hq` query heads, `H` key/value heads,
`D` head size.
"""

import torch


class OpenAttention:
    """Attention of tokens to rows, one layer after the other.

    All layers use the same memory for their weights: allocating it for each layer takes as long as the
    softmax.

    Args:
        visible: bool [P, M]; each token sees at least one row.

    >>> attention = OpenAttention(torch.tensor([[True, True, False]]))
    >>> attention.weigh(torch.ones(1, 2, 4), torch.ones(3, 1, 4), 0.5)[0].tolist()
    [[0.5, 0.5, 0.0]]
    """

    def __init__(self, visible: torch.Tensor) -> None:
        hidden = ~visible
        somewhere = torch.nonzero(hidden.any(dim=0)).flatten()
        # Usually only the last rows, the tokens' own, are hidden from some of the tokens.
        self._first_hidden = int(somewhere[0]) if len(somewhere) else visible.shape[1]
        self._hidden = hidden[:, self._first_hidden :]
        self._scores = torch.empty(0)
        self._weights = torch.empty(0)

    def weigh(
        self, queries: torch.Tensor, keys: torch.Tensor, scale: float, soft_cap: float | None = None
    ) -> torch.Tensor:
        """Attention weights, computed in float32; valid until the next call.

        Args:
            queries: [P, Hq, D], rotated; query heads `i * Hq / H ..` share key head `i`.
            keys: [M, H, D], rotated.
            scale: factor on the scores, usually `D ** -0.5`.
            soft_cap: limits scores to `(-soft_cap, soft_cap)`, as in Gemma 2.

        Returns:
            float32 [Hq, P, M]; each row sums to one.
        """
        num_tokens, num_heads, head_size = queries.shape
        num_rows, num_kv_heads, _ = keys.shape
        by_group = (queries.float() * scale).reshape(num_tokens, num_kv_heads, -1, head_size)
        # One product per key head: broadcasting over the query heads that share it would copy the keys.
        folded = by_group.permute(1, 2, 0, 3).reshape(num_kv_heads, -1, head_size)  # [H, Hq / H * P, D]
        shape = (*folded.shape[:2], num_rows)
        if self._scores.shape != shape:
            self._scores = folded.new_empty(shape)
            self._weights = folded.new_empty(num_heads, num_tokens, num_rows)
        torch.bmm(folded, keys.float().permute(1, 2, 0), out=self._scores)
        scores = self._scores.view(num_heads, num_tokens, num_rows)
        if soft_cap:
            scores.div_(soft_cap).tanh_().mul_(soft_cap)
        scores[..., self._first_hidden :].masked_fill_(self._hidden, -torch.inf)
        return torch.softmax(scores, dim=-1, out=self._weights)


def mix(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The attention output: values, weighted.

    Args:
        weights: float32 [Hq, P, M], from `OpenAttention.weigh`.
        values: [M, H, D].

    Returns:
        [P, Hq, D], in the values' dtype.
    """
    num_heads, num_tokens, num_rows = weights.shape
    folded = weights.reshape(values.shape[1], -1, num_rows)  # [H, Hq / H * P, M]
    mixed = torch.bmm(folded, values.float().transpose(0, 1))  # [H, Hq / H * P, D]
    return mixed.reshape(num_heads, num_tokens, -1).transpose(0, 1).to(values.dtype)
