"""Bodies of requests to `/v1/vector_stores`, as in OpenAI's API."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.server.errors import FieldError

MAX_FILES = 500
"""Maximum number of files of a new vector store, and of a batch."""

Key = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=512)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Metadata = Annotated[dict[Key, Text], Field(max_length=16)]
Attributes = Annotated[dict[Key, Text | bool | int | Number], Field(max_length=16)]
FileIds = Annotated[list[str], Field(max_length=MAX_FILES)]


class Body(BaseModel):
    """Base of all bodies: strict types, and no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ExpiresAfter(Body):
    """When an unused vector store expires."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class AutoChunking(Body):
    """The server's default chunk size."""

    type: Literal["auto"]


class StaticSizes(Body):
    """Sizes in tokens of the served model."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]


class StaticChunking(Body):
    """A chunk size that the client chooses."""

    type: Literal["static"]
    static: StaticSizes


Chunking = Annotated[AutoChunking | StaticChunking, Field(discriminator="type")]


class CreateStore(Body):
    """A new vector store."""

    name: Annotated[str, Field(max_length=256)] | None = None
    description: Text | None = None
    file_ids: FileIds = []
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Chunking | None = None
    metadata: Metadata | None = None


class UpdateStore(Body):
    """Changes to a vector store; a missing field stays, null clears it."""

    name: Annotated[str, Field(max_length=256)] | None = None
    expires_after: ExpiresAfter | None = None
    metadata: Metadata | None = None


class AddFile(Body):
    """An uploaded file to add to a vector store."""

    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class UpdateFile(Body):
    """New attributes, which replace all old ones."""

    attributes: Attributes | None


class AddBatch(Body):
    """Files to add to a vector store together: `file_ids`, or `files` with their own attributes."""

    file_ids: FileIds | None = None
    files: Annotated[list[AddFile], Field(max_length=MAX_FILES)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None

    def each(self) -> list[AddFile]:
        """The files one by one.

        Raises:
            FieldError: both fields are given, or neither.
        """
        if (self.file_ids is None) == (self.files is None) or not (self.file_ids or self.files):
            raise FieldError("file_ids: expected file_ids or files, one of them and not empty", "file_ids")
        if self.files is not None:
            return list(self.files)
        shared = AddFile(file_id="", attributes=self.attributes, chunking_strategy=self.chunking_strategy)
        return [shared.model_copy(update={"file_id": key}) for key in self.file_ids or ()]


class HybridSearch(Body):
    """Weights of vectors and words in the ranking."""

    embedding_weight: Annotated[Number, Field(ge=0)]
    text_weight: Annotated[Number, Field(ge=0)]


class RankingOptions(Body):
    """Ranking of the results, and a minimum score."""

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    hybrid_search: HybridSearch | None = None


class SearchOptions(Body):
    """Options shared by a search and the `file_search` tool."""

    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    ranking_options: RankingOptions | None = None


class SearchStore(SearchOptions):
    """A search. `rewrite_query` is ignored: queries are searched unchanged, and the answer repeats them."""

    query: str | Annotated[list[str], Field(min_length=1, max_length=16)]
    rewrite_query: bool | None = None

    @property
    def queries(self) -> list[str]:
        """The query, or the queries."""
        return [self.query] if isinstance(self.query, str) else self.query


def chunk_tokens_of(chunking: AutoChunking | StaticChunking | None) -> int | None:
    """The requested maximum of tokens in a chunk; None for the server's default.

    Raises:
        FieldError: the request asks for overlapping chunks.
    """
    if not isinstance(chunking, StaticChunking):
        return None
    overlap = chunking.static.chunk_overlap_tokens
    if overlap != 0:
        raise FieldError(
            f"chunking_strategy.static.chunk_overlap_tokens: got {overlap}, expected 0: a chunk's KV is "
            "computed once, and chunks that share text would be blended twice",
            "chunking_strategy.static.chunk_overlap_tokens",
        )
    return chunking.static.max_chunk_size_tokens
