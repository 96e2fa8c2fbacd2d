"""The numbers as they are; read without a copy. The naive twin of every codec."""

import torch


class Raw:
    """Implements `blend.store.codecs.base.Codec`. A raw file is not packed: readers view its bytes."""

    name = "raw"
    version = 1
    is_lossless = True

    def encode(self, kv: torch.Tensor, index: int, num_layers: int) -> bytes:
        """The bytes of one layer."""
        return kv.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    def decode(self, payload: memoryview, into: torch.Tensor) -> None:
        """Inverse of `encode`."""
        into.copy_(torch.frombuffer(bytearray(payload), dtype=into.dtype).view(into.shape))


RAW = Raw()
