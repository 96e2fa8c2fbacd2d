"""Jobs that have not ended, on the disk, so that a server that starts again goes on with them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from api.server.ingest.folders import documents_folder
from retriever.durable import write_durably


@dataclass(frozen=True, slots=True)
class Task:
    """What a job is to do.

    Attributes:
        paths: its documents.
        removes: whether they go; else they come, or have come anew.
    """

    id: str
    collection: str
    paths: tuple[str, ...]
    removes: bool
    created_at: float


class Unfinished:
    """The tasks of each collection in a file of its own, written whole whenever one comes or ends."""

    def __init__(self, store: Path) -> None:
        self._folder = documents_folder(store) / ".jobs"

    def write(self, collection: str, tasks: Iterable[Task]) -> None:
        """Replace a collection's tasks; without any the file goes."""
        content = [asdict(task) for task in tasks]
        path = self._folder / f"{collection}.json"
        if content:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(path, json.dumps(content).encode())
        else:
            path.unlink(missing_ok=True)

    def read(self, collection: str) -> list[Task]:
        """A collection's tasks, in the order of their arrival; none where the file is damaged.

        The documents themselves lie in their folder by then, so no more than the jobs' ids is lost.
        """
        try:
            entries = json.loads((self._folder / f"{collection}.json").read_bytes())
            return [Task(**{**entry, "paths": tuple(entry["paths"])}) for entry in entries]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return []
