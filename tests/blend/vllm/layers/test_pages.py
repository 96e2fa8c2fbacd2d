"""Whole blocks of pages, in the layouts that attention backends use."""

import pytest
import torch

from blend.vllm.layers.rows import blocks_of, pages_like

BLOCKS, ROWS, HEADS, SIZE = 7, 4, 3, 8


@pytest.mark.parametrize(
    ("shape", "block_dim"),
    [
        ((BLOCKS, HEADS, ROWS, 2 * SIZE), 0),
        ((2, BLOCKS, ROWS, HEADS, SIZE), 1),
        ((BLOCKS, 2, ROWS, HEADS, SIZE), 0),
    ],
)
def test_blocks_are_found_and_made_in_every_layout(shape: tuple[int, ...], block_dim: int) -> None:
    pages = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)
    two = blocks_of(pages, 3, 2)
    assert torch.equal(two, pages.narrow(block_dim, 3, 2))
    kept = two.clone()
    blocks_of(pages, 0, 2).copy_(kept)  # a view: what is written to it lies in the pages
    assert torch.equal(pages.narrow(block_dim, 0, 2), kept)
    more = pages_like(pages, 50)
    assert more.shape[block_dim] == 50 and more.stride() == pages.new_empty(more.shape).stride()


def test_a_layout_that_is_permuted_keeps_its_order() -> None:
    pages = torch.zeros(BLOCKS, HEADS, ROWS, SIZE).permute(0, 2, 1, 3)
    more = pages_like(pages, 50)
    assert more.shape == (50, ROWS, HEADS, SIZE)
    assert [i for i, _ in sorted(enumerate(more.stride()), key=lambda x: -x[1])] == [0, 2, 1, 3]
    assert blocks_of(pages, 2, 1).shape == (1, ROWS, HEADS, SIZE)
