"""Folder -> documents -> chunk texts; an unchanged file is not parsed again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from precompute.errors import PrecomputeError
from precompute.events import FileRead, FileUnreadable, Report, Started
from precompute.metadata import metadata_files, read_metadata
from precompute.plan import ChunkedDocument
from precompute.readers import Binary, SourceFile, Unreadable, list_files, load_file, parse
from precompute.splitter import CHUNKING, split
from retriever.collection import Collection
from retriever.filters import Metadata


@dataclass(slots=True)
class FolderReader:
    """Reads one folder once, and counts the files that it skips.

    Attributes:
        folder: the documents.
        chunk_tokens: maximum tokens of a chunk.
        count_tokens: number of tokens of a text as it stands in the middle of a prompt.
        old: the published collection, or None.
        may_be_empty, only_removes: as in `PrecomputeConfig`.
        unreadable: number of files skipped so far, each reported.
        binary: number of binary files skipped so far: neither text nor of a known suffix.
    """

    folder: Path
    chunk_tokens: int
    count_tokens: Callable[[str], int]
    old: Collection | None
    may_be_empty: bool = False
    only_removes: bool = False
    unreadable: int = 0
    binary: int = 0

    def read(self, collection: str, report: Report) -> list[ChunkedDocument]:
        """All readable documents, in the order of their paths.

        Raises:
            PrecomputeError: there is none, and the folder may not be empty.
        """
        files = list(list_files(self.folder))
        descriptions = metadata_files(path for path in files if isinstance(path, str))
        files = [path for path in files if path not in descriptions.values()]
        report(Started(collection, len(files)))
        if self.only_removes:
            return self._unremoved(files)
        documents = [
            replace(document, metadata=self._metadata(descriptions.get(document.path), report))
            for document in self._documents(files, self._known_texts(), report)
        ]
        if not documents and not self.may_be_empty:
            raise PrecomputeError(
                f"no readable document in {self.folder} ({len(files)} files, {self.unreadable} unreadable, "
                f"{self.binary} binary): expected text, Markdown, HTML, PDF or source files"
            )
        return documents

    def _metadata(self, path: str | None, report: Report) -> Metadata:
        found: Metadata | Unreadable = {} if path is None else read_metadata(self.folder, path)
        if isinstance(found, Unreadable):
            self.unreadable += 1
            report(FileUnreadable(found.path, found.reason))
            return {}
        return found

    def _documents(
        self, files: list[str | Unreadable], known: dict[tuple[str, str], ChunkedDocument], report: Report
    ) -> Iterator[ChunkedDocument]:
        for number, path in enumerate(files, 1):
            file = load_file(self.folder, path) if isinstance(path, str) else path
            if isinstance(file, SourceFile):
                same = known.get((file.path, file.sha256))
                document = same if same is not None else self._chunk(file)
            else:
                document = file
            match document:
                case ChunkedDocument():
                    yield document
                case Unreadable():
                    self.unreadable += 1
                    report(FileUnreadable(document.path, document.reason))
                case Binary():
                    self.binary += 1
            report(FileRead(number, len(files)))

    def _chunk(self, file: SourceFile) -> ChunkedDocument | Unreadable | Binary:
        document = parse(file)
        if isinstance(document, Unreadable | Binary):
            return document
        suffix = PurePosixPath(file.path).suffix
        try:
            texts = split(document.text, suffix, self.chunk_tokens, self.count_tokens)
        except ValueError as error:
            return Unreadable(file.path, f"cannot be split: {error}")
        return ChunkedDocument(document.path, document.title, document.sha256, tuple(texts))

    def _unremoved(self, files: list[str | Unreadable]) -> list[ChunkedDocument]:
        """The old collection's documents whose files exist, changed or not."""
        there = set(files)
        return [document for document in self._old_documents() if document.path in there]

    def _known_texts(self) -> dict[tuple[str, str], ChunkedDocument]:
        """Documents of the old collection by path and digest, if it was split by the same rule."""
        if self.old is None:
            return {}
        settings = self.old.settings
        if (settings.chunking, settings.chunk_tokens) != (CHUNKING, self.chunk_tokens):
            return {}
        return {(document.path, document.sha256): document for document in self._old_documents()}

    def _old_documents(self) -> Iterator[ChunkedDocument]:
        if self.old is None:
            return
        texts = {chunk.chunk_id: chunk.text for chunk in self.old.chunks}
        for entry in self.old.manifest.documents:
            own = tuple(texts[chunk_id] for chunk_id in entry.chunk_ids)
            yield ChunkedDocument(entry.path, entry.title, entry.sha256, own, entry.metadata)


def check_folder(folder: Path, *, may_be_empty: bool = False) -> None:
    """Check that a folder of documents exists and is not empty; cheap, so done before a model is loaded.

    Raises:
        PrecomputeError: it is missing, a file, or empty although it may not be.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise PrecomputeError(f"{folder}: expected a folder of documents, found {found} there")
    if not may_be_empty and next(list_files(folder), None) is None:
        raise PrecomputeError(f"{folder} is empty: expected text, Markdown, HTML, PDF or source files in it")
