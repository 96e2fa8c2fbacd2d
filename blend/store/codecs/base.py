"""The contract of a codec: one layer of chunk KV as bytes, and back."""

from typing import Protocol

import torch


class Codec(Protocol):
    """How the numbers of a chunk's file are written. Has no state: called from any thread and process.

    The same layer gives the same bytes every time, with the same versions of its libraries. What it wrote
    is read with no setting: whatever steers it is in the payload. A layer is decoded alone. Checksums are
    the file's affair (`file_format.chunk_file`): a payload is never decoded before it is verified.

    Attributes:
        name: what users write.
        version: of its payload; told apart in a file, so that an older one is never misread.
        is_lossless: whether what is decoded is what was encoded, bit for bit.
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
        """Inverse of `encode`, but for what it dropped.

        Args:
            payload: verified.
            into: [2, T, H, D] of the layer's dtype, contiguous, on the CPU; written to.
        """
