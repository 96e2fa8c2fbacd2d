"""The blend on a Hugging Face model: any decoder that accepts a `Cache`, without an engine."""

from blend.hf.blender import blend
from blend.hf.chunks import compute_chunk, compute_chunks

__all__ = ["blend", "compute_chunk", "compute_chunks"]
