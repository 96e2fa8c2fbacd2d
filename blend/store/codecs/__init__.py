"""Codecs: the keys and values of a layer as fewer bytes, and back.

A codec is one file of this folder that ends in `CODEC = ...`; its name in `NAMES` makes it known everywhere.
It is imported when it is first used. A chunk file says which codec packed it.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch

from blend.chunks.chunk import ChunkRecord
from blend.errors import ConfigError
from blend.store.codecs.base import RAW, Codec

NAMES = (RAW.name, "uniform", "cachegen")
"""Lossless codecs first."""

_NEEDS = {"cachegen": "constriction"}
"""The package that a codec needs; the extra of the codec's name installs it."""

_LOSSY_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def codec(name: str) -> Codec:
    """A codec by its name.

    Raises:
        ConfigError: the name is unknown, or the package that the codec needs is not installed.
    """
    if name not in NAMES:
        raise ConfigError(f"got codec {name!r}, expected one of: {', '.join(NAMES)}")
    if name == RAW.name:
        return RAW
    if not _is_installed(name):
        raise ConfigError(f"codec {name!r} needs the package {_NEEDS[name]}: pip install 'kvblend[{name}]'")
    return _load(name)


@cache
def _load(name: str) -> Codec:
    found: Codec = import_module(f"{__name__}.{name}").CODEC
    return found


def _is_installed(name: str) -> bool:
    return name not in _NEEDS or find_spec(_NEEDS[name]) is not None


def tag_of(codec: Codec) -> str:
    """The codec's entry in a chunk file.

    >>> tag_of(RAW)
    'raw/1'
    """
    return f"{codec.name}/{codec.version}"


def by_tag(tag: str) -> Codec | None:
    """The codec that a chunk file names; None if this installation of kvblend lacks it."""
    name = tag.partition("/")[0]
    known = name in NAMES and _is_installed(name)
    return codec(name) if known and tag_of(codec(name)) == tag else None


def fitting(codec: Codec, record: ChunkRecord, *numbers: torch.Tensor) -> Codec:
    """The codec that packs a chunk: `codec`, or `raw` for chunks that must stay lossless.

    A chunk computed behind nothing stays raw: it may be a prefix, and other chunks are computed behind its
    stored rows. Their values must not depend on whether the prefix was read or had just been computed. Values
    that are not finite, and dtypes that no model computes in, stay raw too.

    Args:
        numbers: of the chunk, of one dtype, of any shape.
    """
    unusual = any(each.dtype not in _LOSSY_DTYPES or not bool(torch.isfinite(each).all()) for each in numbers)
    return RAW if unusual or record.offset == 0 else codec
