"""A question to a collection."""

from dataclasses import dataclass

from api.server.chat.options import RagOptions


@dataclass(frozen=True, slots=True)
class Question:
    """What `kvblend ask` was asked.

    Attributes:
        rag: which chunks of which collection, and how they are blended.
        max_tokens: of the answer.
    """

    text: str
    rag: RagOptions
    max_tokens: int
