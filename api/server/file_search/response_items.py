"""What a search adds to the items of a response: itself, and citations of files in the messages."""

from collections.abc import Iterable, Sequence
from typing import Any

from openai.types.responses import (
    ResponseFileSearchToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)
from openai.types.responses.response_file_search_tool_call import Result
from openai.types.responses.response_output_text import AnnotationFileCitation

from api.server.file_search.searching import Found
from api.server.vector_stores.kept import MemberRecord


def search_call(response_id: str, found: Found, *, shows_results: bool) -> ResponseFileSearchToolCall:
    """The search as an item.

    Args:
        response_id: of the response that it belongs to; its own follows from that.
    """
    results = [
        Result(
            attributes=dict(one.member.attributes),
            file_id=one.member.id,
            filename=one.member.filename,
            score=one.score,
            text=one.hit.text,
        )
        for one in found.hits
    ]
    return ResponseFileSearchToolCall(
        id=f"fs_{response_id.removeprefix('resp_')}",
        queries=[found.question],
        status="completed",
        type="file_search_call",
        results=results if shows_results else None,
    )


def file_citations(files: Sequence[MemberRecord], text: str) -> list[AnnotationFileCitation]:
    """One of each file, at the end of a text: all of it may rest on any of them."""
    return [
        AnnotationFileCitation(type="file_citation", file_id=file.id, filename=file.filename, index=len(text))
        for file in files
    ]


def annotate(items: Iterable[Any], files: Sequence[MemberRecord]) -> None:
    """Put citations into the texts of messages, in the place of any that are there."""
    for item in items:
        if isinstance(item, ResponseOutputMessage):
            for part in item.content:
                annotate_part(part, files)


def annotate_part(part: Any, files: Sequence[MemberRecord]) -> None:
    """The same for one part of a message; what is no text stays as it is."""
    if isinstance(part, ResponseOutputText):
        part.annotations = list(file_citations(files, part.text))
