"""`/v1/responses`: chunks go in before vLLM's handler, figures and citations into its answer."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from types import AsyncGeneratorType
from typing import Any

from fastapi import Request
from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, ResponsesResponse
from vllm.entrypoints.openai.responses.utils import construct_input_messages

from api.server.chat.closing import closed_at_end
from api.server.chat.options import RagOptions, take_options
from api.server.chat.report import blend_object
from api.server.chat.retrieval import LaidOut, Message, Retrieval
from api.server.chat.route import Handler
from api.server.errors import FieldError
from api.server.file_search.search_items import annotate, search_call, searched_events
from api.server.file_search.searching import FileSearch, Found
from api.server.file_search.tool import TYPE, FileSearchTool, is_wanted, split_tools, type_of
from api.server.surface.request import namespace_of, stats_in
from blend.vllm.request_params import KEY

SEARCH_CALL = "file_search_call"
TEXT_PARTS = ("input_text", "output_text")
UNFINISHED = ("queued", "in_progress")


@dataclass(slots=True)
class Asked:
    """What a client asked for, where vLLM sees something else.

    Attributes:
        repeated: fields of the request that its answer repeats.
        found: None before a search, and without one.
    """

    response_id: str
    repeated: dict[str, Any]
    rag: RagOptions | None
    tool: FileSearchTool | None
    namespace: str
    shows_results: bool
    found: Found | None = None


class BlendResponses(Handler):
    """`/v1/responses`.

    Args:
        file_search: None where there are no vector stores.
    """

    def __init__(self, inner: Any, retrieval: Retrieval, file_search: FileSearch | None) -> None:
        super().__init__(inner, retrieval)
        self._file_search = file_search
        self._stored: dict[str, Asked] = {}  # kept as long as vLLM keeps its responses

    async def create_responses(self, request: ResponsesRequest, raw_request: Request | None = None) -> Any:
        """As vLLM's handler does it, from the chunks that the request names."""
        asked = _asked(request, namespace_of(raw_request))
        await self._lay_out(request, asked)
        if request.store and self._inner.enable_store:
            self._stored[asked.response_id] = asked
        answer = await self._inner.create_responses(request, raw_request)
        return closed_at_end(self._finished(answer, asked), raw_request)

    async def retrieve_responses(
        self, response_id: str, starting_after: int | None = None, stream: bool | None = None
    ) -> Any:
        """A stored response, or its events behind the one of a number."""
        asked = self._stored.get(response_id)
        if asked is None:
            return await self._inner.retrieve_responses(response_id, starting_after, stream)
        answer = self._finished(await self._inner.retrieve_responses(response_id, None, stream), asked)
        if not isinstance(answer, AsyncGeneratorType) or starting_after is None:
            return answer
        return (event async for event in answer if event.sequence_number > starting_after)

    async def _lay_out(self, request: ResponsesRequest, asked: Asked) -> None:
        """Put chunks into the conversation, which becomes the request's whole input."""
        previous_id = request.previous_response_id
        previous = None if previous_id is None else self._inner.response_store.get(previous_id)
        if (asked.rag is None and asked.tool is None) or (previous_id is not None and previous is None):
            return  # there is nothing to lay out, or vLLM refuses the request
        conversation = construct_input_messages(
            request_instructions=request.instructions,
            request_input=request.input,
            prev_msg=None if previous is None else self._inner.msg_store.get(previous.id),
            prev_response_output=None if previous is None else list(previous.output),
        )
        messages = [_with_text(message) for message in conversation]
        laid = await self._searched(request, asked, messages)
        request.instructions = request.previous_response_id = None
        request.input = list(as_items(laid.messages))

    async def _searched(
        self, request: ResponsesRequest, asked: Asked, messages: list[Message]
    ) -> LaidOut | Found:
        if asked.rag is not None:
            return await self._retrieval.lay_out_found(asked.rag, messages)
        assert asked.tool is not None
        if self._file_search is None:
            raise FieldError("tools: got file_search, but this server has no vector stores", "tools")
        max_tokens = request.max_output_tokens
        asked.found = await self._file_search.find(asked.tool, messages, asked.namespace, max_tokens)
        return asked.found

    def _finished(self, answer: Any, asked: Asked) -> Any:
        if isinstance(answer, ResponsesResponse):
            self._complete(answer, asked)
        return self._events(answer, asked) if isinstance(answer, AsyncGeneratorType) else answer

    async def _events(self, events: AsyncGenerator[Any, None], asked: Asked) -> AsyncGenerator[Any, None]:
        if (found := asked.found) is not None:
            call = search_call(asked.response_id, found, shows_results=asked.shows_results)
            events = searched_events(events, call, found.files)
        async with aclosing(events):
            async for event in events:
                if hasattr(event, "response"):
                    self._complete(event.response, asked)
                yield event

    def _complete(self, answer: ResponsesResponse, asked: Asked) -> None:
        """Put in what vLLM does not know. In place, and once: vLLM may have stored the answer."""
        for field, value in asked.repeated.items():
            setattr(answer, field, value)
        if answer.status in UNFINISHED or "blend" in (answer.model_extra or {}):
            return
        stats, params = stats_in(answer.kv_transfer_params), answer.kv_transfer_params or {}
        answer.kv_transfer_params = {key: value for key, value in params.items() if key != KEY} or None
        if stats.fallback is None and answer.usage is not None:
            answer.usage.input_tokens_details.cached_tokens = stats.counts.cached_tokens
        found = asked.found
        sources = {} if found is None else found.sources
        source_of = self._retrieval.library.source_of
        blend = blend_object(stats, lambda key: sources.get(key) or source_of(key))
        answer.blend = blend  # type: ignore[attr-defined]
        if found is not None:
            annotate(answer.output, found.files)
            call = search_call(asked.response_id, found, shows_results=asked.shows_results)
            answer.output.insert(0, call)


def _asked(request: ResponsesRequest, namespace: str) -> Asked:
    """Read the request, and leave in it what vLLM knows."""
    rag = take_options(request).rag
    repeated = {
        "tools": list(request.tools),
        "tool_choice": request.tool_choice,
        "instructions": request.instructions,
        "previous_response_id": request.previous_response_id,
    }
    choice = request.tool_choice
    tool, request.tools = split_tools(list(request.tools))
    if tool is not None and rag is not None:
        raise FieldError("tools: file_search is not available together with rag; send either", "tools")
    if not request.tools or getattr(choice, "type", None) == TYPE:
        request.tool_choice = "none"
    if not isinstance(request.input, str):  # a client sends the last answer's items back
        request.input = [item for item in request.input if type_of(item) != SEARCH_CALL]
    return Asked(
        response_id=request.request_id,
        repeated=repeated,
        rag=rag,
        tool=tool if is_wanted(choice) else None,
        namespace=namespace,
        shows_results=f"{SEARCH_CALL}.results" in (request.include or ()),
    )


def as_items(messages: Iterable[Message]) -> Iterator[Any]:
    """Messages of a chat as items of a response's input, of which vLLM makes the same messages again."""
    for message in messages:
        if message["role"] != "assistant":
            yield message
            continue
        if (reasoning := message.get("reasoning")) is not None:
            content = [{"type": "reasoning_text", "text": reasoning}]
            yield ResponseReasoningItem.model_validate(
                {"id": "", "type": "reasoning", "summary": [], "content": content}
            )
        if (said := message.get("content")) is not None:
            yield {"role": "assistant", "content": said}
        for call in message.get("tool_calls") or ():
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            yield ResponseFunctionToolCall(
                type="function_call", call_id=call["id"], name=name, arguments=arguments
            )


def _with_text(message: Message) -> Message:
    """A message whose parts have the names that chats have for them."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [
        {"type": "text", "text": part.get("text")} if type_of(part) in TEXT_PARTS else part
        for part in content
    ]
    return {**message, "content": parts}
