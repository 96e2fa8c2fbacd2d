"""Even steps and an entropy stage: one step for all keys of a layer, one for each token's values.

Keys are not scaled by channel: a query meets the sum of all channels' errors, so all may err alike, and as
little as most channels need, however far a few of them spread. Values
are scaled by token: tokens that draw much attention tend to have small values, and must not err like large
ones. Both were measured against their opposites, and against integers in groups, see docs/log/2026-11.md.
"""

import torch

from blend.store.codecs.entropy import compress, decompress
from blend.store.codecs.payload import join, scales_from_bytes, scales_to_bytes, split
from blend.store.codecs.steps import STEP_BY_TOKEN, Stepped, from_steps, to_even_steps, to_steps

_WIDTH = 0.2
"""Of a step, in the spread of the numbers that share it; for both alike no worse than other shares."""


class Uniform:
    """Implements `blend.store.codecs.base.Codec`.

    A number comes back off by half of its step at most, and by what its dtype rounds.
    """

    name = "uniform"
    version = 2
    is_lossless = False

    def encode(self, kv: torch.Tensor, index: int, num_layers: int) -> bytes:
        """The payload of one layer: of keys, then of values, symbols, centres and steps."""
        keys, values = kv.float().flatten(2)  # [T, H * D] each
        both = (
            to_even_steps(keys, _WIDTH),
            to_steps(values, _WIDTH, STEP_BY_TOKEN, is_centred=False),
        )
        return join(
            piece
            for one in both
            for piece in (compress(one.symbols), scales_to_bytes(one.centre), scales_to_bytes(one.step))
        )

    def decode(self, payload: memoryview, into: torch.Tensor) -> None:
        """Inverse of `encode`, but for the rounding."""
        pieces = split(payload)
        for rows, place, shape in ((into[0], 0, (1, -1)), (into[1], 3, (-1, 1))):
            flat = rows.view(rows.shape[0], -1)  # [T, H * D]
            symbols = decompress(pieces[place], rows.numel()).view(torch.int8).view(flat.shape)
            centre, step = (scales_from_bytes(piece) for piece in pieces[place + 1 : place + 3])
            from_steps(Stepped(symbols, centre.view(1, -1), step.view(shape)), flat)
