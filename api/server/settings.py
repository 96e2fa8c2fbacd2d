"""Settings of the server: what it serves, what it takes of a request, and what it ingests."""

from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainSerializer

from blend.errors import RequestError
from blend.plan.ratio import Ratio, parse_ratio
from blend.plan.sharing import Sharing
from blend.settings.defaults import DEFAULTS as BLEND_DEFAULTS
from blend.settings.group import Group, setting
from blend.settings.values import (
    Choice,
    Count,
    FileOrNone,
    Names,
    PositiveSize,
    Seconds,
    Share,
    Text,
    converted_by,
)
from retriever.config import DEFAULTS as RETRIEVER_DEFAULTS

MAX_JSON_DEPTH = 500
"""Beyond it, reading JSON could exhaust the stack."""

_SECRET_FLAGS = ("api-key", "hf-token")


class LogFormat(StrEnum):
    """How the server's log is written: one line, or one JSON object, for each request."""

    TEXT = "text"
    JSON = "json"


def _without_secrets(flags: dict[str, Any]) -> dict[str, Any]:
    secret = {name for name in flags if name.replace("_", "-") in _SECRET_FLAGS}
    return {name: "***" if name in secret else value for name, value in flags.items()}


RatioOrNone = Annotated[Ratio | None, converted_by(lambda given: parse_ratio(str(given)), RequestError)]
VllmFlags = Annotated[dict[str, Any], PlainSerializer(_without_secrets)]


class ServeConfig(Group):
    """How a server serves."""

    section: ClassVar[str] = "serve"

    collections: Names = setting(
        (), "collections to serve; the flag may be repeated", flag="--collection", metavar="NAME"
    )
    model: Text | None = setting(
        None,
        "name, folder, GGUF file or hub id of the model",
        metavar="MODEL",
        default_text="the collections' model",
    )
    reranker: Text | None = setting(
        None,
        "model that reads the best candidates again: a cross-encoder, or late: and an embedding model",
        metavar="MODEL",
    )
    embedder: Text = setting(
        RETRIEVER_DEFAULTS.embedder,
        "embedding model of collections that are created over HTTP: a folder, a hub id, or URL/v1#MODEL",
        metavar="MODEL",
    )
    recompute_ratio: RatioOrNone = setting(
        None,
        "share of context tokens that is recomputed, in [0, 1], or auto, for requests that name none",
        metavar="R",
        default_text=f"the model's calibrated ratio, else {BLEND_DEFAULTS.recompute_ratio}",
    )
    share_blends: Annotated[Sharing, Choice] = setting(
        Sharing.NO,
        "what other questions on the same context get: a blend of their own (no), the same blend, for the "
        "cost of a prefix hit and with less fidelity (as-is), or the same with more recomputed (topped-up)",
        metavar="{no,as-is,topped-up}",
    )
    always_blend: bool = setting(False, "blend also where full prefill is predicted to be faster")
    key_file: FileOrNone = setting(
        None, "file of API keys, one of which each request must carry; it is re-read when it changes"
    )
    log_format: LogFormat = setting(
        LogFormat.TEXT, "format of the log's line for each request", metavar="{text,json}"
    )
    drain_s: Seconds = setting(
        30.0, "how long running requests may take to finish after the server is asked to stop"
    )
    max_body_bytes: PositiveSize = setting(32 << 20, "largest body of a request that is no upload")
    max_upload_bytes: PositiveSize = setting(256 << 20, "largest body of an upload")
    max_json_depth: Annotated[Count, Field(le=MAX_JSON_DEPTH)] = setting(
        64, f"deepest nesting of arrays and objects in a JSON body, at most {MAX_JSON_DEPTH}"
    )
    ingest_share: Share = setting(
        0.25,
        "largest share of the engine's time, over 0 to 1, that ingestion takes while requests are served",
        metavar="SHARE",
    )
    max_document_bytes: PositiveSize = setting(
        32 << 20, "largest document of a collection, and largest uploaded file"
    )
    max_files_bytes: PositiveSize = setting(16 << 30, "largest size of all uploaded files together")
    max_chat_documents: Count = setting(128, "largest number of documents in one chat request")
    max_chat_chars: Count = setting(
        1 << 20, "largest number of characters of all documents of one chat request"
    )
    max_job_documents: Count = setting(1000, "largest number of documents in one ingestion job")
    max_metadata_bytes: PositiveSize = setting(16 << 10, "largest metadata of one document, as JSON")
    max_jobs: Count = setting(1000, "largest number of ingestion jobs that have not ended")
    max_ended_jobs: Count = setting(1000, "largest number of ended ingestion jobs whose status is kept")
    max_learned_chunks: Count = setting(
        4096,
        "largest number of chunks of chat documents whose texts are kept; the least recently used is evicted",
    )
    vllm: VllmFlags = setting(
        {}, "flags of `vllm serve` by name; those of the command line win", variable="", flag="", repr=False
    )


DEFAULTS = ServeConfig()
