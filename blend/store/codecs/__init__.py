"""Codecs: the keys and values of a layer as fewer bytes, and back.

One codec is one file; a line in `_KNOWN` makes it known everywhere. A file says which one packed it.
"""

from importlib.util import find_spec

import torch

from blend.chunks.chunk import ChunkRecord
from blend.errors import ConfigError
from blend.store.codecs.base import Codec
from blend.store.codecs.cachegen import CacheGen
from blend.store.codecs.int4 import Int4
from blend.store.codecs.int8 import Int8
from blend.store.codecs.raw import RAW
from blend.store.codecs.uniform import Uniform

_CACHEGEN = CacheGen()
_KNOWN: tuple[Codec, ...] = (RAW, Int8(), Int4(), Uniform(), _CACHEGEN)
CODECS = {codec.name: codec for codec in _KNOWN}
"""By name, those that may lose nothing first."""

_LOSSY_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def codec(name: str) -> Codec:
    """A codec by its name.

    Raises:
        ConfigError: there is none of that name, or the package that it needs is not installed.
    """
    if name == CacheGen.name and not _has_coder():
        raise ConfigError("codec 'cachegen' needs the constriction package: pip install 'kvblend[cachegen]'")
    try:
        return CODECS[name]
    except KeyError:
        raise ConfigError(f"got codec {name!r}, expected one of: {', '.join(CODECS)}") from None


def _has_coder() -> bool:
    return find_spec("constriction") is not None


def tag_of(codec: Codec) -> str:
    """What a file says of its codec.

    >>> tag_of(RAW)
    'raw/1'
    """
    return f"{codec.name}/{codec.version}"


def by_tag(tag: str) -> Codec | None:
    """The codec that a file names, or None where this installation of kvblend has none such."""
    if tag == tag_of(_CACHEGEN) and not _has_coder():
        return None
    return next((codec for codec in _KNOWN if tag_of(codec) == tag), None)


def fitting(codec: Codec, record: ChunkRecord, *numbers: torch.Tensor) -> Codec:
    """The codec that packs a chunk: the one that is wanted, or `raw` where that must not be.

    What was computed behind nothing stays as it is: it may be a prefix, and chunks are computed behind what
    is stored of it. They would differ by whether the prefix was read or had just been computed. Numbers that
    are not finite, or that no model computes in, are kept too.

    Args:
        numbers: of the chunk, of one dtype, whatever their shape.
    """
    odd = any(each.dtype not in _LOSSY_DTYPES or not bool(torch.isfinite(each).all()) for each in numbers)
    return RAW if odd or record.offset == 0 else codec
