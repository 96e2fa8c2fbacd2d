"""Integers of eight bits."""

from blend.store.codecs.integers import Integers


class Int8(Integers):
    """Implements `blend.store.codecs.base.Codec`; see `Integers`."""

    name = "int8"
    bits = 8
    key_group = 128
    value_group = 64
