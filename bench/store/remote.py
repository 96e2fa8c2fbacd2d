"""A remote tier, compared with raw calls of its own client: GETs of the same sizes, without decoding."""

from collections.abc import Sequence
from functools import partial
from secrets import token_hex

from blend.chunks.chunk import ChunkKV
from blend.store.codecs.base import Codec
from blend.store.file_format.recoding import to_file
from blend.store.remote.client import make_client
from blend.store.remote.connection import run
from blend.store.remote.remote import RemoteStore

DEADLINE_MS = 60_000
"""Long, so that a measurement waits instead of giving up."""


class RemoteTier:
    """A server; implements `bench.store.tiers.Tier`.

    The plain reads are of the same bytes under another mark, by the same client; nothing is verified there.

    Args:
        name: what the table says.
        url: of the server.
        chunks: all that will be measured.
    """

    def __init__(self, name: str, url: str, codec: Codec, chunks: Sequence[ChunkKV]) -> None:
        self.name = name
        self.codec = codec.name
        self.store = RemoteStore(url, token_hex(8), codec=codec, deadline_ms=DEADLINE_MS)
        self.raw_kept = None  # a client keeps what it is given
        self._plain = make_client(url, token_hex(8), DEADLINE_MS / 1e3)
        self._files = {chunk.record.chunk_id: memoryview(to_file(chunk, codec)) for chunk in chunks}
        for chunk_id, file in self._files.items():
            run(partial(self._plain.put, chunk_id, file), DEADLINE_MS / 1e3)

    def before_write(self, chunk: ChunkKV) -> None:
        """Have it absent: a server keeps what it has."""
        self.store.delete(chunk.record.chunk_id)

    def before_read(self, chunk: ChunkKV) -> None:
        """Nothing: it lies in the server."""

    def stored_bytes(self, chunk: ChunkKV) -> int:
        """Size of its file."""
        return len(self._files[chunk.record.chunk_id])

    def read(self, chunk: ChunkKV) -> int:
        """Get it: every byte verified, decoded."""
        assert self.store.get(chunk.record) is not None, "it was put"
        return self.stored_bytes(chunk)

    def raw_read(self, chunk: ChunkKV) -> int:
        """The file's bytes."""
        file = run(partial(self._plain.get, chunk.record.chunk_id), DEADLINE_MS / 1e3)
        assert file is not None, "it was put"
        return len(file)

    def close(self) -> None:
        """Leave nothing on the server, and leave it."""
        for chunk_id in self._files:
            self.store.delete(chunk_id)
            run(partial(self._plain.drop, chunk_id), DEADLINE_MS / 1e3)
        self.store.close()
        run(self._plain.close, DEADLINE_MS / 1e3)
