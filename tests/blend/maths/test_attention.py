"""Open attention equals torch's, and the probe's weights are what they say."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from blend.maths.attention import OpenAttention, mix


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (7, 1)])
def test_it_gives_what_torchs_attention_gives(heads: tuple[int, int]) -> None:
    num_query_heads, num_heads = heads
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(5, num_query_heads, 8, generator=generator)
    keys, values = torch.randn(2, 11, num_heads, 8, generator=generator)
    visible = torch.arange(11) <= torch.arange(6, 11)[:, None]
    visible[2, 1] = False  # as where a question stands before the documents
    attention = OpenAttention(visible)
    attention.weigh(queries + 1, keys, 8**-0.5)  # of another layer: it leaves nothing behind
    weights = attention.weigh(queries, keys, 8**-0.5)
    q, k, v = (rows.transpose(0, 1)[None] for rows in (queries, keys, values))
    expected = scaled_dot_product_attention(q, k, v, attn_mask=visible[None, None], enable_gqa=True)
    torch.testing.assert_close(mix(weights, values), expected[0].transpose(0, 1))
    torch.testing.assert_close(weights.sum(-1), torch.ones(num_query_heads, 5))
    assert not weights.masked_select(~visible).any()


def test_a_soft_cap_bends_the_scores() -> None:
    queries, keys = torch.tensor([[[100.0]]]), torch.tensor([[[1.0]], [[0.0]]])
    attention = OpenAttention(torch.ones(1, 2, dtype=torch.bool))
    expected = torch.tensor([2.0, 0.0]).softmax(0)
    torch.testing.assert_close(attention.weigh(queries, keys, 1.0, soft_cap=2.0)[0, 0], expected)
