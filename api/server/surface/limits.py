"""How large what a client sends may be: each limit a setting of its own."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes; what ingestion takes stands in `api.server.ingest.settings`.

    Attributes:
        body_bytes: of a request's body, uploads apart.
        upload_bytes: of an upload's body: a form with a file, or a document that is put.
        json_depth: of objects and arrays inside each other in a JSON body.
    """

    body_bytes: int = 32 * MIB
    upload_bytes: int = 256 * MIB
    json_depth: int = 64


DEFAULT_LIMITS = Limits()
