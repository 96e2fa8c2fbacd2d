"""Settings of a precompute job; each default is written once, here."""

from dataclasses import dataclass
from pathlib import Path

from retriever.config import DEFAULTS as RETRIEVER_DEFAULTS


@dataclass(frozen=True, slots=True)
class PrecomputeDefaults:
    """What a job gets when nothing else is said.

    Attributes:
        chunk_tokens: most tokens of a chunk, counted by the serving model's own tokenizer.
        min_chunk_tokens: least value that makes sense: one character may take several tokens.
        prefix: text before the first chunk.
        embedder: embedding model of the index.
    """

    chunk_tokens: int = 512
    min_chunk_tokens: int = 16
    prefix: str = (
        "You answer questions from the documents below. Use only what they say, "
        "answer briefly, and say so when they do not hold the answer."
    )
    embedder: str = RETRIEVER_DEFAULTS.embedder


DEFAULTS = PrecomputeDefaults()


@dataclass(frozen=True, slots=True)
class PrecomputeConfig:
    """One job: which folder becomes which collection, and how.

    Attributes:
        folder: the documents.
        store: folder of chunk KV and collections.
        collection: name of the collection.
        may_be_empty: a folder without a readable document makes an empty collection, and is no mistake.
        only_removes: documents that the folder has no more go, quickly, and all else stays as it was.
    """

    folder: Path
    store: Path
    collection: str
    chunk_tokens: int = DEFAULTS.chunk_tokens
    prefix: str = DEFAULTS.prefix
    may_be_empty: bool = False
    only_removes: bool = False
