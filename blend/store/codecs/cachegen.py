"""Differences to anchor tokens in steps that widen with depth, and arithmetic coding.

Tokens are taken by tens. The first of each ten is an anchor, kept finely; the others are kept as differences
to it, with wider steps in later layers. As the paper has it, but for one thing: there is one table a layer
and kind of symbol, not one a channel. Steps follow each channel's spread here, so the channels are alike, and
short chunks cannot pay for so many tables.

Reference: CacheGen, https://arxiv.org/abs/2310.07240; the coder (asymmetric numeral systems) is that of the
library constriction.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from blend.store.codecs.payload import join, scales_from_bytes, scales_to_bytes, split
from blend.store.codecs.steps import MAX_SYMBOL, STEP_BY_CHANNEL, Stepped, from_steps, to_steps

_GROUP = 10
_ANCHOR_WIDTH = 1 / 32
"""Of an anchor's step, in standard deviations: eight bits reach four of them."""
_WIDTHS = (0.25, 0.375, 0.5)
"""Of a difference's step in the first, second and last third of the layers."""


class CacheGen:
    """Implements `blend.store.codecs.base.Codec`. Decodes a hundred times slower than `uniform`.

    A number comes back off by half of its channel's step at most, an anchor's or a difference's, and by what
    its dtype rounds: differences are taken to the anchors as they will be decoded.
    """

    name = "cachegen"
    version = 1
    is_lossless = False

    def encode(self, kv: torch.Tensor, index: int, num_layers: int) -> bytes:
        """The payload of one layer: of keys, then of values, anchors and differences."""
        width = _WIDTHS[index * len(_WIDTHS) // num_layers]
        pieces: list[bytes] = []
        for rows in kv.float().flatten(2):  # [T, H * D]
            anchors = to_steps(rows[::_GROUP], _ANCHOR_WIDTH, STEP_BY_CHANNEL)
            pieces += _to_pieces(anchors)
            others = rows - _spread(_numbers(anchors), len(rows))
            if len(rows) > 1:
                pieces += _to_pieces(to_steps(others[_is_other(len(rows))], width, STEP_BY_CHANNEL))
        return join(pieces)

    def decode(self, payload: memoryview, into: torch.Tensor) -> None:
        """Inverse of `encode`, but for the rounding."""
        pieces = iter(split(payload))
        for rows in into:
            flat = rows.view(rows.shape[0], -1)  # [T, H * D]
            num_tokens, width = flat.shape
            wide = _spread(_decoded(pieces, -(-num_tokens // _GROUP), width), num_tokens)
            if num_tokens > 1:
                is_other = _is_other(num_tokens)
                wide[is_other] += _decoded(pieces, int(is_other.sum()), width)
            flat.copy_(wide)


def _is_other(num_tokens: int) -> torch.Tensor:
    """bool [T]: not an anchor."""
    return torch.arange(num_tokens) % _GROUP != 0


def _spread(anchors: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Each token's anchor: [T, C]."""
    return anchors.repeat_interleave(_GROUP, dim=0)[:num_tokens]


def _to_pieces(stepped: Stepped) -> list[bytes]:
    import constriction

    symbols = stepped.symbols.flatten().numpy().astype(np.int32) + MAX_SYMBOL
    counts = np.bincount(symbols, minlength=2 * MAX_SYMBOL + 1).astype(np.uint32)
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(symbols, _model(counts))
    scales = (scales_to_bytes(stepped.centre), scales_to_bytes(stepped.step))
    return [counts.tobytes(), coder.get_compressed().tobytes(), *scales]


def _decoded(pieces: Iterator[memoryview], num_rows: int, width: int) -> torch.Tensor:
    """Inverse of `_to_pieces`: float32 [num_rows, width]."""
    import constriction

    counts, code = (np.frombuffer(next(pieces), dtype=np.uint32) for _ in range(2))
    coder = constriction.stream.stack.AnsCoder(code.copy())
    symbols = coder.decode(_model(counts), num_rows * width) - MAX_SYMBOL
    centre, step = (scales_from_bytes(next(pieces)).view(1, -1) for _ in range(2))
    return _numbers(Stepped(torch.from_numpy(symbols.astype(np.int8)).view(num_rows, width), centre, step))


def _numbers(stepped: Stepped) -> torch.Tensor:
    rows = torch.empty(stepped.symbols.shape)
    from_steps(stepped, rows)
    return rows


def _model(counts: np.ndarray) -> Any:
    """The table of a layer: what never occurs is all but impossible, yet each symbol has a code."""
    import constriction

    weights = counts.astype(np.float32) + 1e-3
    return constriction.stream.model.Categorical(weights / weights.sum(), perfect=False)


CODEC = CacheGen()
