"""What a search adds to the events of a streamed response: its own, and citations as texts end."""

from collections.abc import AsyncGenerator, Iterator, Sequence
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
    ResponseOutputText,
    ResponseOutputTextAnnotationAddedEvent,
)

from api.server.file_search.response_items import annotate, annotate_part, file_citations
from api.server.vector_stores.kept import MemberRecord

UNNUMBERED = -1


async def searched_events(
    events: AsyncGenerator[Any, None], call: ResponseFileSearchToolCall | None, files: Sequence[MemberRecord]
) -> AsyncGenerator[Any, None]:
    """A stream's events with those of a search among them, all numbered anew; the same ones without a search.

    Args:
        call: the search; None for none.
        files: what is cited.
    """
    number = 0
    async with aclosing(events):
        async for event in events:
            for one in [event] if call is None else _with_search(event, call, files):
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
        annotate_part(event.part, files)
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
    for number, citation in enumerate(file_citations(files, part.text)):
        yield ResponseOutputTextAnnotationAddedEvent(
            type="response.output_text.annotation.added",
            annotation=citation.model_dump(),  # type: ignore[arg-type]
            annotation_index=number,
            content_index=event.content_index,
            item_id=event.item_id,
            output_index=event.output_index,
            sequence_number=UNNUMBERED,
        )
