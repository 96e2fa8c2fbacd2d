"""Citations in answers and streams, and the events of a search, on vLLM's own objects."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from openai.types.responses import ResponseFileSearchToolCall, ResponseOutputMessage
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionResponse
from vllm.entrypoints.openai.responses.streaming_events import (
    StreamingState,
    emit_text_delta_events,
    emit_text_output_done_events,
)

from api.server.chat.report import edited
from api.server.file_search.citations import Citations
from api.server.file_search.search_items import searched_events
from api.server.vector_stores.kept import MemberRecord

FILES = [
    MemberRecord(id=f"file-{n}", namespace="", filename=f"{n}.md", path=f"{n}.md", num_bytes=1, job="j")
    for n in "ab"
]
CALL = ResponseFileSearchToolCall(id="fs_1", queries=["q"], status="completed", type="file_search_call")


async def given(events: list[Any]) -> AsyncGenerator[Any, None]:
    for event in events:
        yield event


def gathered(events: AsyncGenerator[Any, None]) -> list[Any]:
    async def gather() -> list[Any]:
        return [event async for event in events]

    return asyncio.run(gather())


def test_a_message_with_text_is_cited_and_one_without_is_not():
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": "Sixteen."}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": None}, "finish_reason": "tool_calls"},
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 2, "completion_tokens": 1}
    answer = ChatCompletionResponse.model_validate(
        {"model": "m", "choices": choices, "usage": usage, "blend": {"ratio": 0.1}}
    )
    cited = Citations(FILES).cited(answer).model_dump()
    annotations = cited["choices"][0]["message"]["annotations"]
    assert [one["file_citation"] for one in annotations] == [
        {"file_id": "file-a", "filename": "a.md", "index": 8},
        {"file_id": "file-b", "filename": "b.md", "index": 8},
    ]
    assert cited["choices"][1]["message"]["annotations"] is None
    assert cited["blend"] == {"ratio": 0.1} and cited["id"] == answer.id


def chunk(index: int, content: str | None, finish: str | None = None) -> str:
    delta = {} if content is None else {"content": content}
    data = {"choices": [{"index": index, "delta": delta, "finish_reason": finish}], "object": "x"}
    return f"data: {json.dumps(data)}\n\n"


def test_a_stream_cites_when_a_choice_ends_and_leaves_the_rest_untouched():
    events = [chunk(0, "Six"), chunk(1, None), chunk(0, "teen", "stop"), chunk(1, None, "tool_calls")]
    told = gathered(edited(given([*events, "data: [DONE]\n\n", ": alive\n\n"]), [Citations(FILES)]))
    assert [told[i] for i in (0, 1, 3, 4, 5)] == [
        events[0],
        events[1],
        events[3],
        "data: [DONE]\n\n",
        ": alive\n\n",
    ]
    data = json.loads(told[2].removeprefix("data: "))
    annotations = data["choices"][0]["delta"]["annotations"]
    assert [one["file_citation"]["index"] for one in annotations] == [7, 7]


def test_a_searched_response_tells_of_the_search_first_and_cites_as_its_text_ends():
    state = StreamingState()
    events = [
        *emit_text_delta_events("Sixteen", state),
        *emit_text_delta_events(".", state),
        *emit_text_output_done_events("Sixteen.", state),
    ]
    told = gathered(searched_events(given(events), CALL, FILES))
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert {event.output_index for event in told} == {1}
    kinds = [event.type for event in told]
    assert kinds[-4:] == [
        "response.output_text.annotation.added",
        "response.output_text.annotation.added",
        "response.content_part.done",
        "response.output_item.done",
    ]
    part, item = told[-2].part, told[-1].item
    assert [one.filename for one in part.annotations] == ["a.md", "b.md"]
    assert isinstance(item, ResponseOutputMessage)
    assert [one.index for one in item.content[0].annotations] == [8, 8]
