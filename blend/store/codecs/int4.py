"""Integers of four bits."""

from blend.store.codecs.integers import Integers


class Int4(Integers):
    """Implements `blend.store.codecs.base.Codec`; see `Integers`."""

    name = "int4"
    bits = 4
    key_group = 32
    value_group = 32
