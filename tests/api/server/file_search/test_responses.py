"""`/v1/responses` around a stand-in for vLLM's handler: what it is given, and what its answers become."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest, ResponsesResponse
from vllm.entrypoints.openai.responses.utils import construct_input_messages

from api.server.chat.retrieval import LaidOut
from api.server.errors import FieldError
from api.server.file_search.responses import BlendResponses, as_items
from blend.report.stats import BlendStats, TokenCounts
from blend.vllm.request_params import KEY

STATS = BlendStats(context_tokens=20, counts=TokenCounts(exact_tokens=4, reused_tokens=16))
PREFIX = {"role": "system", "content": "Read."}


class Inner:
    """vLLM's handler, in small: it remembers what it was asked, and stores its answers."""

    enable_store = True

    def __init__(self) -> None:
        self.response_store: dict[str, ResponsesResponse] = {}
        self.msg_store: dict[str, Any] = {}
        self.asked: list[ResponsesRequest] = []

    async def create_responses(self, request: ResponsesRequest, raw_request: Any) -> ResponsesResponse:
        self.asked.append(request.model_copy())
        messages = construct_input_messages(
            request_instructions=request.instructions, request_input=request.input
        )
        self.msg_store[request.request_id] = messages
        answer = ResponsesResponse.model_validate(
            {
                "id": request.request_id,
                "model": "m",
                "status": "completed",
                "output": [],
                "parallel_tool_calls": True,
                "temperature": 0.0,
                "top_p": 1.0,
                "background": False,
                "max_output_tokens": 8,
                "service_tier": "auto",
                "truncation": "disabled",
                "instructions": request.instructions,
                "previous_response_id": request.previous_response_id,
                "tool_choice": request.tool_choice,
                "tools": request.tools,
                "kv_transfer_params": {KEY: STATS.to_json(), "other": 1},
            }
        )
        self.response_store[answer.id] = answer
        return answer

    async def retrieve_responses(self, response_id: str, starting_after: Any, stream: Any) -> Any:
        return self.response_store[response_id]


class Retrieval:
    """Finds one chunk for every question."""

    library = SimpleNamespace(source_of={}.get)

    async def lay_out_found(self, rag: Any, asked: list[dict[str, Any]]) -> LaidOut:
        first, *rest = [message for message in asked if message["role"] != "system"]
        return LaidOut([PREFIX, {**first, "content": f"A chunk.\n\n{first['content']}"}, *rest], {})


@pytest.fixture
def responses() -> BlendResponses:
    return BlendResponses(Inner(), Retrieval(), None)  # type: ignore[arg-type]


def ask(responses: BlendResponses, **body: Any) -> Any:
    request = ResponsesRequest.model_validate({"model": "m", "input": "Why?", **body})
    return asyncio.run(responses.create_responses(request))


def test_the_prompt_holds_the_chunks_and_the_answer_repeats_what_the_client_sent(responses):
    answer = ask(responses, instructions="Be brief.", rag={"collection": "docs"})
    [asked] = responses._inner.asked
    assert asked.instructions is None
    assert asked.input == [PREFIX, {"role": "user", "content": "A chunk.\n\nWhy?"}]
    assert answer.instructions == "Be brief."
    assert answer.blend["reused_tokens"] == 16 and answer.kv_transfer_params == {"other": 1}


def test_a_later_turn_is_laid_out_as_one_conversation_and_names_the_turn_before(responses):
    first = ask(responses, rag={"collection": "docs"})
    second = ask(responses, input="And then?", previous_response_id=first.id, rag={"collection": "docs"})
    _, asked = responses._inner.asked
    assert asked.previous_response_id is None
    assert [message["role"] for message in asked.input] == ["system", "user", "user"]
    assert second.previous_response_id == first.id


def test_a_turn_that_vllm_does_not_know_is_left_to_vllm(responses):
    ask(responses, previous_response_id="resp_none", rag={"collection": "docs"})
    [asked] = responses._inner.asked
    assert asked.previous_response_id == "resp_none" and asked.input == "Why?"


def test_a_stored_answer_is_completed_once(responses):
    answer = ask(responses, rag={"collection": "docs"})
    again = asyncio.run(responses.retrieve_responses(answer.id))
    assert again.blend == answer.blend and again.blend["reused_tokens"] == 16


def test_without_vector_stores_file_search_is_refused(responses):
    with pytest.raises(FieldError, match="no vector stores"):
        ask(responses, tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}])


def test_messages_survive_their_way_through_the_items_of_an_input():
    items = [
        {"role": "user", "content": "When?"},
        ResponseReasoningItem.model_validate(
            {
                "id": "r",
                "type": "reasoning",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "Hm."}],
            }
        ),
        {"role": "assistant", "content": "I look."},
        ResponseFunctionToolCall(type="function_call", call_id="1", name="now", arguments="{}"),
        ResponseFunctionToolCall(type="function_call", call_id="2", name="then", arguments="{}"),
        {"type": "function_call_output", "call_id": "1", "output": "12:00"},
    ]
    messages = construct_input_messages(request_input=items)  # type: ignore[arg-type]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert construct_input_messages(request_input=list(as_items(messages))) == messages
