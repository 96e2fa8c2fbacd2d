"""The contract of a codec, one layer of chunk KV as bytes and back, and its naive twin, `raw`."""

from typing import Protocol

import torch


class Codec(Protocol):
    """How a chunk file holds keys and values. Stateless: called from any thread and process.

    The same layer gives the same bytes every time, with the same versions of its libraries. Reading needs no
    setting: the payload holds every parameter. Each layer is decoded alone. The chunk file verifies checksums
    (`file_format.chunk_file`): a payload is verified before it is decoded.

    Attributes:
        name: as users write it.
        version: of the payload. A file names it, so that another version is never misread.
        is_lossless: whether decoding returns the encoded values bit for bit.
    """

    name: str
    version: int
    is_lossless: bool

    def encode(self, kv: torch.Tensor, index: int, num_layers: int) -> bytes:
        """The payload of one layer.

        Args:
            kv: [2, T, H, D], keys and values, on the CPU; float32, bfloat16 or float16, all finite.
            index: of the layer among `num_layers`, for codecs that treat layers differently.
        """

    def decode(self, payload: memoryview, into: torch.Tensor) -> None:
        """Inverse of `encode`, except for the precision that `encode` dropped.

        Args:
            payload: verified.
            into: [2, T, H, D] of the layer's dtype, contiguous, on the CPU; written to.
        """


class Raw:
    """The values as they are; implements `Codec`. A raw file is not packed: readers view its bytes."""

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
