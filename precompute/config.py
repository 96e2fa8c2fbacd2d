"""Settings of a precompute job, and the job itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from blend.settings.defaults import DEFAULT_MODEL
from blend.settings.group import Group, setting
from blend.settings.values import Count, Text
from retriever.config import DEFAULTS as RETRIEVER_DEFAULTS

MIN_CHUNK_TOKENS = 16
"""One character may take several tokens: a smaller limit could not be kept."""


class PrecomputeSettings(Group):
    """What `kvblend precompute` does with every folder."""

    section: ClassVar[str] = "precompute"

    model: Text = setting(
        DEFAULT_MODEL, "name, folder, GGUF file or hub id of the serving model", metavar="MODEL"
    )
    chunk_tokens: Annotated[Count, Field(ge=MIN_CHUNK_TOKENS)] = setting(
        512, f"largest number of tokens in a chunk, from {MIN_CHUNK_TOKENS} up"
    )
    prefix: str = setting(
        "You answer questions from the documents below. Use only what they say, "
        "answer briefly, and say so when they do not hold the answer.",
        "text before the first chunk; the flag names a file that holds it",
        metavar="FILE",
        default_text="an instruction to answer briefly from the documents",
    )
    embedder: Text = setting(
        RETRIEVER_DEFAULTS.embedder,
        "embedding model: a local folder, a hub id, or URL#MODEL of a service with OpenAI's /v1/embeddings, "
        "whose key is in KVBLEND_EMBEDDINGS_API_KEY",
        metavar="MODEL",
    )


DEFAULTS = PrecomputeSettings()


@dataclass(frozen=True, slots=True)
class PrecomputeConfig:
    """One job: which folder becomes which collection, and how.

    Attributes:
        folder: the documents.
        store: folder of chunk KV and collections.
        collection: name of the collection.
        may_be_empty: a folder without a readable document makes an empty collection, and is no mistake.
        only_removes: documents that the folder has no more are removed, quickly; all others stay as they are.
    """

    folder: Path
    store: Path
    collection: str
    chunk_tokens: int = DEFAULTS.chunk_tokens
    prefix: str = DEFAULTS.prefix
    may_be_empty: bool = False
    only_removes: bool = False
