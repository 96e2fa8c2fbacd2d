"""Whether other questions on an already blended context use that blend."""

from enum import StrEnum


class Sharing(StrEnum):
    """Whether other questions on the same context use a blend. Its own conversation always does.

    Attributes:
        NO: each question has a blend of its own.
        AS_IS: all questions use the first question's blend: at the cost of a prefix hit, and furthest from
            full prefill.
        TOPPED_UP: rows that earlier questions had recomputed are kept, and the rows that the new question
            needs are recomputed in addition.
    """

    NO = "no"
    AS_IS = "as-is"
    TOPPED_UP = "topped-up"
