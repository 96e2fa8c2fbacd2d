"""What lies in a folder of chunk files, by last use: which of them go when room is needed.

The folder is the truth: other processes and machines write to it and use what is in it. So before room is
made its names are listed, which is cheap; a file's size and last use are looked up when its name is new, and
its last use once more before it is evicted. Nothing is locked. Writers that make room at the same moment may
each be over the budget by the one chunk that they are writing.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from pathlib import Path

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk's file.

    Attributes:
        num_bytes: of the file.
        used_ns: when it was last written or used, in nanoseconds since 1970.
    """

    chunk_id: str
    num_bytes: int
    used_ns: int


def read_entry(root: Path, chunk_id: str) -> Entry | None:
    """A chunk's file as it is now, or None when it has gone."""
    try:
        status = (root / _file(chunk_id)).stat()
    except OSError:
        return None
    return Entry(chunk_id, status.st_size, status.st_mtime_ns)


class Ledger:
    """Files of one folder by last use. Not thread-safe: its store locks.

    Args:
        is_pinned: whether an id goes after all others.
        evict: removes a file; a no-op when it has gone.
    """

    def __init__(self, root: Path, is_pinned: Callable[[str], bool], evict: Callable[[str], None]) -> None:
        self._root = root
        self._is_pinned = is_pinned
        self._evict = evict
        self._entries: dict[str, Entry] = {}  # by the file's name
        self._used: dict[str, int] = {}

    def used(self, chunk_id: str, now_ns: int) -> None:
        """This process wrote or used a file."""
        self._used[chunk_id] = now_ns

    def make_room(self, num_bytes: int, budget_bytes: int, chunk_id: str | None = None) -> list[str]:
        """Evict until a file of this size keeps within the budget.

        Args:
            chunk_id: the file's, when it is about to be written: it may replace one, which stays till then.

        Returns:
            Ids that were evicted, in this order.
        """
        self._refresh()
        others = [entry for entry in self._entries.values() if entry.chunk_id != chunk_id]
        excess = sum([entry.num_bytes for entry in others]) + num_bytes - budget_bytes
        evicted = []
        victims = self._victims(others) if excess > 0 else iter(())
        while excess > 0 and (victim := next(victims, None)) is not None:
            self._evict(victim.chunk_id)
            del self._entries[_file(victim.chunk_id)]
            excess -= victim.num_bytes
            evicted.append(victim.chunk_id)
        return evicted

    def _refresh(self) -> None:
        # Whole sets of names: a folder of thousands is listed at every write, and few of them are new.
        names = set(os.listdir(self._root))
        for name in self._entries.keys() - names:
            del self._entries[name]
        for name in names - self._entries.keys():
            chunk_id = name.removesuffix(SUFFIX)
            is_chunk = chunk_id != name and not name.startswith(".")
            if is_chunk and (entry := read_entry(self._root, chunk_id)) is not None:
                self._entries[name] = entry
        for chunk_id, used_ns in self._used.items():
            entry = self._entries.get(_file(chunk_id))
            if entry is not None and used_ns > entry.used_ns:
                self._entries[_file(chunk_id)] = replace(entry, used_ns=used_ns)
        self._used.clear()

    def _victims(self, entries: list[Entry]) -> Iterator[Entry]:
        """Entries in the order in which they go."""
        queue = [(entry.used_ns, entry.chunk_id) for entry in entries]
        heapify(queue)
        pinned = []
        while queue:
            used_ns, chunk_id = heappop(queue)
            current = read_entry(self._root, chunk_id)
            if current is not None and current.used_ns > used_ns:  # by another process
                self._entries[_file(chunk_id)] = current
                heappush(queue, (current.used_ns, chunk_id))
            elif self._is_pinned(chunk_id):
                pinned.append(self._entries[_file(chunk_id)])
            else:
                yield self._entries[_file(chunk_id)]
        yield from pinned


def _file(chunk_id: str) -> str:
    return f"{chunk_id}{SUFFIX}"
