"""Integers of a few bits: keys by channel in groups of tokens, values by token in groups of channels.

What `int8` and `int4` share. The codes go through an entropy stage.

Reference: KIVI, https://arxiv.org/abs/2402.02750
"""

import torch

from blend.store.codecs.entropy import compress, decompress
from blend.store.codecs.groups import Grouped, dequantise, quantise
from blend.store.codecs.payload import join, scales_from_bytes, scales_to_bytes, split


class Integers:
    """Implements `blend.store.codecs.base.Codec`; a subclass says how many bits, and in which groups.

    A number comes back off by half of its group's step at most, which is the group's range over
    `2 ** bits - 1`, and by what its dtype rounds.
    """

    name: str
    version = 1
    is_lossless = False
    bits: int
    key_group: int
    """Tokens that share a lowest key and a step, channel by channel."""
    value_group: int
    """Channels that share a lowest value and a step, token by token."""

    def encode(self, kv: torch.Tensor, index: int, num_layers: int) -> bytes:
        """The payload of one layer: of keys, then of values, codes, lowest numbers and steps."""
        keys, values = kv.float()
        columns = keys.shape[1] * keys.shape[2]
        by_channel = quantise(keys.reshape(-1, columns), self.bits, self.key_group)
        by_token = quantise(values.reshape(-1, 1), self.bits, self.value_group)
        return join(
            piece
            for one in (by_channel, by_token)
            for piece in (compress(one.codes), scales_to_bytes(one.low), scales_to_bytes(one.step))
        )

    def decode(self, payload: memoryview, into: torch.Tensor) -> None:
        """Inverse of `encode`, but for the rounding."""
        pieces, columns = split(payload), into.shape[2] * into.shape[3]
        for rows, width, group, place in (
            (into[0], columns, self.key_group, 0),
            (into[1], 1, self.value_group, 3),
        ):
            codes = decompress(pieces[place], rows.numel()).view(-1, width)
            low, step = (scales_from_bytes(piece).view(-1, width) for piece in pieces[place + 1 : place + 3])
            rows.copy_(dequantise(Grouped(codes, low, step, group)).view(rows.shape))
