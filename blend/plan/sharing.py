"""What another question on a context gets that was blended already."""

from enum import StrEnum


class Sharing(StrEnum):
    """Whether a blend serves other questions on the same context. Its own conversation it always serves.

    Attributes:
        NO: each question has a blend of its own.
        AS_IS: the first question's blend serves all others: at the cost of a prefix hit, and furthest from
            full prefill.
        TOPPED_UP: what earlier questions had recomputed is kept, and the rows that the new one needs besides
            are recomputed.
    """

    NO = "no"
    AS_IS = "as-is"
    TOPPED_UP = "topped-up"
