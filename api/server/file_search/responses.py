"""`/v1/responses`: vLLM's own handler, with `rag`, `blend` and `file_search` read, and statistics put in."""

import copy
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, ResponsesResponse
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses
from vllm.entrypoints.openai.responses.utils import construct_input_messages

from api.server.chat.closing import closed_at_end
from api.server.chat.conversation import Message
from api.server.chat.options import RagOptions
from api.server.chat.report import blend_object, stats_in
from api.server.chat.retrieval import Retrieval
from api.server.chat.serving import options_of
from api.server.errors import FieldError
from api.server.file_search.response_events import searched_events
from api.server.file_search.response_items import annotate, search_call
from api.server.file_search.searching import FileSearch, Found
from api.server.file_search.tool import TYPE, FileSearchTool, is_wanted, split_tools, type_of
from api.server.surface.keys import namespace_of
from blend.vllm.request_params import KEY

SEARCH_CALL = "file_search_call"
TEXT_PARTS = ("input_text", "output_text")


@dataclass(slots=True)
class Asking:
    """One request, from its arrival to its answer.

    Attributes:
        tools, tool_choice: as the client sent them; the answer repeats them.
        found: None before a search, and without one.
    """

    tools: list[Any]
    tool_choice: Any
    rag: RagOptions | None
    tool: FileSearchTool | None
    namespace: str
    shows_results: bool
    found: Found | None = None


class BlendResponses(OpenAIServingResponses):
    """`/v1/responses`. Each request is answered by a copy of the handler, which knows it.

    Attributes:
        file_search: None where there are no vector stores.
        asking: the request; copies alone have it.
    """

    retrieval: Retrieval
    file_search: FileSearch | None
    asking: Asking

    async def create_responses(self, request: ResponsesRequest, raw_request: Request | None = None) -> Any:
        own = copy.copy(self)
        own.asking = _asking(request, raw_request)
        answer = await super(BlendResponses, own).create_responses(request, raw_request)
        return closed_at_end(answer, raw_request)

    async def _render_resolved_response_inputs(
        self, request: ResponsesRequest, prev_response: ResponsesResponse | None, **kwargs: Any
    ) -> Any:
        asking = self.asking
        if asking.rag is None and asking.tool is None:
            return await super()._render_resolved_response_inputs(request, prev_response, **kwargs)
        messages = [_with_text(message) for message in self._conversation(request, prev_response)]
        laid = await self._searched(request, messages)
        told = laid.pop(0)["content"] if laid[0]["role"] == "system" else None
        # vLLM makes of these three what we have; the answer repeats what the client sent.
        sent = request.instructions, request.input
        request.instructions, request.input = told, []
        try:
            return await self.online_renderer.render_responses(
                request, previous_messages=laid, tool_server=self.tool_server, **kwargs
            )
        finally:
            request.instructions, request.input = sent

    def _conversation(self, request: ResponsesRequest, previous: ResponsesResponse | None) -> list[Message]:
        messages: list[Message] = construct_input_messages(
            request_instructions=request.instructions,
            request_input=request.input,
            prev_msg=None if previous is None else self.msg_store.get(previous.id),
            prev_response_output=None if previous is None else list(previous.output),
        )
        return messages

    async def _searched(self, request: ResponsesRequest, messages: list[Message]) -> list[Message]:
        asking = self.asking
        if asking.tool is None:
            assert asking.rag is not None
            return await self.retrieval.messages(asking.rag, messages)
        if self.file_search is None:
            raise FieldError("tools: got file_search, but this server has no vector stores", "tools")
        asking.found = await self.file_search.find(
            asking.tool, messages, asking.namespace, request.max_output_tokens
        )
        return asking.found.messages

    async def responses_stream_generator(
        self,
        request: ResponsesRequest,
        sampling_params: Any,
        result_generator: Any,
        *args: Any,
        **kwargs: Any,
    ) -> AsyncGenerator[Any, None]:
        events = super().responses_stream_generator(
            request, sampling_params, result_generator, *args, **kwargs
        )
        found, shows = self.asking.found, self.asking.shows_results
        call = None if found is None else search_call(request.request_id, found, shows_results=shows)
        files = [] if found is None else found.files
        async with aclosing(result_generator), aclosing(events):
            async for event in searched_events(events, call, files):
                if hasattr(event, "response"):
                    self._repeat_tools(event.response)
                yield event

    async def responses_full_generator(self, request: ResponsesRequest, *args: Any, **kwargs: Any) -> Any:
        answer = await super().responses_full_generator(request, *args, **kwargs)
        if isinstance(answer, ResponsesResponse):
            self._complete(answer)
        return answer

    def _complete(self, answer: ResponsesResponse) -> None:
        """Put in what vLLM knows nothing of. In place: vLLM may have stored the answer already."""
        stats, params = stats_in(answer.kv_transfer_params), answer.kv_transfer_params or {}
        answer.kv_transfer_params = {key: value for key, value in params.items() if key != KEY} or None
        if stats.fallback is None and answer.usage is not None:
            answer.usage.input_tokens_details.cached_tokens = stats.counts.cached_tokens
        found = self.asking.found
        sources = {} if found is None else found.sources
        source_of = self.retrieval.library.source_of
        blend = blend_object(stats, lambda key: sources.get(key) or source_of(key))
        answer.blend = blend  # type: ignore[attr-defined]
        self._repeat_tools(answer)
        if found is not None:
            annotate(answer.output, found.files)
            call = search_call(answer.id, found, shows_results=self.asking.shows_results)
            answer.output.insert(0, call)

    def _repeat_tools(self, answer: ResponsesResponse) -> None:
        answer.tools, answer.tool_choice = list(self.asking.tools), self.asking.tool_choice


def _asking(request: ResponsesRequest, raw_request: Request | None) -> Asking:
    """Read the request, and leave in it what vLLM knows."""
    rag = options_of(request).rag
    tools, choice = list(request.tools), request.tool_choice
    tool, request.tools = split_tools(tools)
    if tool is not None and rag is not None:
        raise FieldError("tools: file_search is not available together with rag; send either", "tools")
    if not request.tools or getattr(choice, "type", None) == TYPE:
        request.tool_choice = "none"
    if not isinstance(request.input, str):  # a client sends the last answer's items back
        request.input = [item for item in request.input if type_of(item) != SEARCH_CALL]
    return Asking(
        tools=tools,
        tool_choice=choice,
        rag=rag,
        tool=tool if is_wanted(choice) else None,
        namespace=namespace_of(raw_request),
        shows_results=f"{SEARCH_CALL}.results" in (request.include or ()),
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
