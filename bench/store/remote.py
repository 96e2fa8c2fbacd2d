"""A remote tier beside raw calls of its own client: GETs of the same sizes, whose answers are dropped."""

from collections.abc import Sequence
from secrets import token_hex

from blend.chunks.chunk import ChunkKV
from blend.store.codecs.base import Codec
from blend.store.file_format.recoding import to_file
from blend.store.remote.entry import Entry, split
from blend.store.remote.remote import RemoteStore
from blend.store.remote.url import make_client

DEADLINE_MS = 60_000
"""A measurement waits, where a request would compute the chunk."""
PIECE_BYTES = 8 << 20


class RemoteTier:
    """A server; implements `bench.store.tiers.Tier`.

    What is read plainly was written plainly: the same bytes in the same pieces, under another mark, by the
    same client. Nothing is checked, joined or bounded by a deadline there.

    Args:
        name: what the table says.
        url: of the server.
        chunks: all that will be measured.
    """

    def __init__(self, name: str, url: str, codec: Codec, chunks: Sequence[ChunkKV]) -> None:
        self.name = name
        self.codec = codec.name
        self.store = RemoteStore(
            url, token_hex(8), codec=codec, deadline_ms=DEADLINE_MS, piece_bytes=PIECE_BYTES
        )
        self.raw_kept = None  # a client keeps what it is given
        self._plain = make_client(url, token_hex(8), DEADLINE_MS / 1e3)
        self._entries = {chunk.record.chunk_id: _entry(chunk, codec) for chunk in chunks}
        for chunk_id, entry in self._entries.items():
            self._plain.put(chunk_id, entry)

    def before_write(self, chunk: ChunkKV) -> None:
        """Have it absent: a server keeps what it has."""
        self.store.delete(chunk.record.chunk_id)

    def before_read(self, chunk: ChunkKV) -> None:
        """Nothing: it lies in the server."""

    def stored_bytes(self, chunk: ChunkKV) -> int:
        """Size of its file."""
        return self._entries[chunk.record.chunk_id].layout.num_bytes

    def read(self, chunk: ChunkKV) -> int:
        """Get it: every byte verified, decoded."""
        assert self.store.get(chunk.record) is not None, "it was put"
        return self.stored_bytes(chunk)

    def raw_read(self, chunk: ChunkKV) -> int:
        """The head and all pieces."""
        chunk_id = chunk.record.chunk_id
        layout, head = self._entries[chunk_id].layout, self._plain.head(chunk_id)
        assert head is not None, "it was put"
        num_bytes = len(head)
        for part in self._plain.fetch(chunk_id, layout, layout.spans(layout.start, layout.stop)):
            assert part is not None, "it was put"
            num_bytes += len(part)
        return num_bytes

    def close(self) -> None:
        """Leave nothing on the server, and leave it."""
        for chunk_id in self._entries:
            self.store.delete(chunk_id)
            self._plain.drop(chunk_id)
        self.store.close()
        self._plain.close()


def _entry(chunk: ChunkKV, codec: Codec) -> Entry:
    return split(to_file(chunk, codec), chunk.record.chunk_id, PIECE_BYTES)
