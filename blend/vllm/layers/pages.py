"""Blocks of a layer's pages, in whatever layout the attention backend uses."""

import torch

Page = list[torch.Tensor]
"""One block of each layer's pages, in the attention backend's layout."""


def pages_like(pages: torch.Tensor, num_blocks: int) -> torch.Tensor:
    """New pages of the same layout."""
    order = _by_stride(pages)
    shape = list(pages.shape)
    shape[_block_dim(pages)] = num_blocks
    permuted = torch.zeros([shape[dim] for dim in order], dtype=pages.dtype, device=pages.device)
    return permuted.permute([order.index(dim) for dim in range(pages.ndim)])


def blocks_of(pages: torch.Tensor, first: int, num_blocks: int) -> torch.Tensor:
    """A view of some consecutive blocks.

    >>> pages = torch.arange(12).view(2, 3, 2, 1, 1)  # keys and values, blocks, rows
    >>> blocks_of(pages, 1, 2).flatten().tolist()
    [2, 3, 4, 5, 8, 9, 10, 11]
    """
    return pages.narrow(_block_dim(pages), first, num_blocks)


def _block_dim(pages: torch.Tensor) -> int:
    """The dimension that counts blocks."""
    order = _by_stride(pages)
    # A leading pair (keys, values) may have the largest stride; the block dimension is the larger one.
    return order[1] if pages.shape[order[0]] == 2 and pages.ndim == 5 else order[0]


def _by_stride(pages: torch.Tensor) -> list[int]:
    strides = pages.stride()
    return sorted(range(pages.ndim), key=lambda dim: -strides[dim])
