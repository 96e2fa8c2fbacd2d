"""What a search adds to a response: its own item and events, and citations of files in the messages."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from openai.types.responses import (
    ResponseContentPartDoneEvent,
    ResponseFileSearchCallCompletedEvent,
    ResponseFileSearchCallInProgressEvent,
    ResponseFileSearchCallSearchingEvent,
    ResponseFileSearchToolCall,
    ResponseInProgressEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseOutputTextAnnotationAddedEvent,
)
from openai.types.responses.response_file_search_tool_call import Result
from openai.types.responses.response_output_text import AnnotationFileCitation

from api.server.file_search.searching import Found
from api.server.vector_stores.kept import MemberRecord

UNNUMBERED = -1


def search_call(response_id: str, found: Found, *, shows_results: bool) -> ResponseFileSearchToolCall:
    """The search as an item.

    Args:
        response_id: of the response that holds the item; the item's own id follows from it.
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


def annotate(items: Iterable[Any], files: Sequence[MemberRecord]) -> None:
    """Put citations into the texts of messages, in the place of any that are there."""
    for item in items:
        if isinstance(item, ResponseOutputMessage):
            for part in item.content:
                if isinstance(part, ResponseOutputText):
                    part.annotations = list(_citations(files, part.text))


async def searched_events(
    events: AsyncGenerator[Any, None], call: ResponseFileSearchToolCall, files: Sequence[MemberRecord]
) -> AsyncGenerator[Any, None]:
    """A stream's events with those of a search among them, all renumbered.

    Args:
        call: the search.
        files: that are cited.
    """
    number = 0
    async with aclosing(events):
        async for event in events:
            for one in _with_search(event, call, files):
                if hasattr(one, "sequence_number"):
                    one.sequence_number = number
                number += 1
                yield one


def _with_search(
    event: Any, call: ResponseFileSearchToolCall, files: Sequence[MemberRecord]
) -> Iterator[Any]:
    if hasattr(event, "output_index"):
        event.output_index += 1  # the search is the first item
    if isinstance(event, ResponseContentPartDoneEvent) and isinstance(event.part, ResponseOutputText):
        yield from _annotations(event, event.part, files)
        event.part.annotations = list(_citations(files, event.part.text))
    if isinstance(event, ResponseOutputItemDoneEvent):
        annotate([event.item], files)
    yield event
    if isinstance(event, ResponseInProgressEvent):
        yield from _search(call)


def _search(call: ResponseFileSearchToolCall) -> Iterator[Any]:
    place: dict[str, Any] = {"sequence_number": UNNUMBERED, "output_index": 0}
    begun = call.model_copy(update={"status": "in_progress", "queries": [], "results": None})
    yield ResponseOutputItemAddedEvent(type="response.output_item.added", item=begun, **place)
    yield ResponseFileSearchCallInProgressEvent(
        type="response.file_search_call.in_progress", item_id=call.id, **place
    )
    yield ResponseFileSearchCallSearchingEvent(
        type="response.file_search_call.searching", item_id=call.id, **place
    )
    yield ResponseFileSearchCallCompletedEvent(
        type="response.file_search_call.completed", item_id=call.id, **place
    )
    yield ResponseOutputItemDoneEvent(type="response.output_item.done", item=call, **place)


def _annotations(
    event: ResponseContentPartDoneEvent, part: ResponseOutputText, files: Sequence[MemberRecord]
) -> Iterator[ResponseOutputTextAnnotationAddedEvent]:
    for number, citation in enumerate(_citations(files, part.text)):
        yield ResponseOutputTextAnnotationAddedEvent(
            type="response.output_text.annotation.added",
            annotation=citation.model_dump(),  # type: ignore[arg-type]
            annotation_index=number,
            content_index=event.content_index,
            item_id=event.item_id,
            output_index=event.output_index,
            sequence_number=UNNUMBERED,
        )


def _citations(files: Sequence[MemberRecord], text: str) -> list[AnnotationFileCitation]:
    """One citation of each file, at the end of a text: all of it may rest on any of them."""
    return [
        AnnotationFileCitation(type="file_citation", file_id=file.id, filename=file.filename, index=len(text))
        for file in files
    ]
