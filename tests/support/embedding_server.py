"""A small embedding service over real HTTP, which can be told to fail."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.word_embedder import WordEmbedder


@dataclass
class Service:
    """What the service is told, and what it was asked.

    Attributes:
        refusals: statuses of the next answers; ordinary ones follow.
        garbage: answered in place of vectors.
        batches: numbers of texts of all requests that were answered.
        keys: `Authorization` headers, as they came.
        scale: length of its vectors.
    """

    url: str = ""
    refusals: list[int] = field(default_factory=list)
    garbage: Any = None
    batches: list[int] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    scale: float = 3.0

    def answer(self, asked: dict[str, Any]) -> tuple[int, Any]:
        self.models.add(asked["model"])
        if self.refusals:
            return self.refusals.pop(0), {"error": {"message": "not now"}}
        if self.garbage is not None:
            return 200, self.garbage
        vectors = WordEmbedder().embed(asked["input"]) * self.scale
        self.batches.append(len(vectors))
        data = [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
        return 200, {"object": "list", "model": asked["model"], "data": data[::-1], "usage": {}}


@contextmanager
def embedding_server() -> Iterator[Service]:
    """A service on a free port, until the end of the block."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            service.keys.append(self.headers["Authorization"])
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = service.answer(asked) if self.path == "/v1/embeddings" else (404, {})
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After-Ms", "1")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the console."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
