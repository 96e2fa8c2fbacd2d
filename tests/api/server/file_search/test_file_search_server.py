"""`file_search` on a real server, in chats and in responses, through an unchanged `openai` client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from openai.types.responses.response_output_text import AnnotationFileCitation

from tests.support.server_process import ROOT, Served

pytestmark = pytest.mark.engine

QUESTION = "What is the default block size of the original vLLM?"
PAGES = ("paged-attention.html", "prefix-caching.md")
PAGE_BYTES = 6000  # of each, the answer among them
OTHER = "The Danube rises in the Black Forest and flows into the Black Sea."


@pytest.fixture(scope="module")
def pages(served: Served) -> Iterator[str]:
    """A vector store of some pages, uploaded through the client."""
    files = [
        served.client.files.create(
            file=(name, (ROOT / "demo" / "docs" / name).read_bytes()[:PAGE_BYTES]), purpose="user_data"
        )
        for name in PAGES
    ]
    made = served.client.vector_stores.create(name="pages")
    described: Any = [{"file_id": file.id, "attributes": {"name": file.filename}} for file in files]
    batch = served.client.vector_stores.file_batches.create_and_poll(
        made.id, files=described, poll_interval_ms=500
    )
    assert batch.file_counts.completed == len(PAGES), batch
    yield made.id
    for one in served.client.vector_stores.list():
        served.client.vector_stores.delete(one.id)
    for file in served.client.files.list():
        served.client.files.delete(file.id)


def tool(pages: str, **said: Any) -> dict[str, Any]:
    return {"type": "file_search", "vector_store_ids": [pages], "max_num_results": 4, **said}


def chat(served: Served, tools: list[Any], question: str = QUESTION, **said: Any) -> Any:
    return served.client.chat.completions.create(
        model=served.model,
        messages=[{"role": "user", "content": question}],
        tools=tools,
        temperature=0.0,
        max_tokens=24,
        **said,
    )


def respond(served: Served, tools: list[Any], question: Any = QUESTION, **said: Any) -> Any:
    return served.client.responses.create(
        model=served.model, input=question, tools=tools, temperature=0.0, max_output_tokens=24, **said
    )


def sources(blend: Any) -> list[str]:
    """Files that the chunks of a prompt are of; the prefix is of none."""
    return [chunk["source"] for chunk in blend["chunks"] if chunk["source"] is not None]


def check_blend(blend: Any) -> None:
    assert blend["fallback"] is None
    assert 1 <= len(sources(blend)) <= 4
    assert set(sources(blend)) <= set(PAGES)
    assert blend["reused_tokens"] + blend["exact_tokens"] > blend["cold_tokens"]


def test_a_chat_is_answered_from_files_and_cites_them(served, pages):
    answer = chat(served, [tool(pages)])
    check_blend(answer.blend)
    message = answer.choices[0].message
    assert "16" in message.content
    assert {one.type for one in message.annotations} == {"file_citation"}
    cited = [one.file_citation for one in message.annotations]
    assert {one["filename"] for one in cited} == set(sources(answer.blend))
    assert len({one["file_id"] for one in cited}) == len(cited)
    assert {one["index"] for one in cited} == {len(message.content)}
    assert not message.tool_calls


def test_a_streamed_chat_ends_with_the_same(served, pages):
    whole = chat(served, [tool(pages)])
    *tokens, finish, usage = chat(served, [tool(pages)], stream=True, stream_options={"include_usage": True})
    text = "".join(chunk.choices[0].delta.content or "" for chunk in [*tokens, finish])
    assert text == whole.choices[0].message.content
    cited = [one["file_citation"] for one in finish.choices[0].delta.annotations]
    assert cited == [one.file_citation for one in whole.choices[0].message.annotations]
    check_blend(finish.blend)
    assert usage.usage.prompt_tokens_details.cached_tokens > 0


def test_a_filter_leaves_out_files(served, pages):
    wanted = {"type": "eq", "key": "name", "value": "prefix-caching.md"}
    answer = chat(served, [tool(pages, filters=wanted)])
    assert set(sources(answer.blend)) == {"prefix-caching.md"}
    nothing = chat(served, [tool(pages, filters={**wanted, "value": "none"})])
    assert sources(nothing.blend) == []
    assert nothing.choices[0].message.annotations == []


def test_a_response_is_answered_from_files_and_cites_them(served, pages):
    answer = respond(served, [tool(pages)], include=["file_search_call.results"], instructions="Be brief.")
    Response.model_validate(answer.model_dump(warnings=False, exclude_unset=True))
    check_blend(answer.blend)
    assert "16" in answer.output_text
    call, message = answer.output
    assert (call.type, call.status, call.queries) == ("file_search_call", "completed", [QUESTION])
    assert len(call.results) == len(sources(answer.blend))
    assert all(0 <= one.score <= 1 and one.text and one.file_id for one in call.results)
    [part] = message.content
    assert all(isinstance(one, AnnotationFileCitation) for one in part.annotations)
    assert {one.filename for one in part.annotations} == {one.filename for one in call.results}
    assert {one.index for one in part.annotations} == {len(part.text)}
    assert answer.tools[0].type == "file_search" and answer.tools[0].vector_store_ids == [pages]
    assert answer.instructions == "Be brief."
    blend = answer.blend
    assert answer.usage.input_tokens_details.cached_tokens == blend["exact_tokens"] + blend["reused_tokens"]
    assert respond(served, [tool(pages)]).output[0].results is None


def test_a_streamed_response_has_all_events_of_a_search_in_their_order(served, pages):
    whole = respond(served, [tool(pages)])
    events = list(respond(served, [tool(pages)], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds[:7] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
    ]
    assert kinds[-1] == "response.completed"
    added = [event for event in events if event.type == "response.output_text.annotation.added"]
    last = events[-1].response
    check_blend(last.blend)
    assert last.output_text == whole.output_text
    assert [item.type for item in last.output] == ["file_search_call", "message"]
    [part] = last.output[1].content
    assert [event.annotation.filename for event in added] == [one.filename for one in part.annotations]
    assert all(event.output_index == 1 and event.item_id == last.output[1].id for event in added)
    assert all(event.response.tools[0].type == "file_search" for event in (events[0], events[-1]))
    done = [event for event in events if event.type == "response.output_item.done"]
    assert [event.output_index for event in done] == [0, 1]


def test_a_client_sends_the_last_answer_back_and_asks_on(served, pages):
    first = respond(served, [tool(pages)])
    said = [
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        *(item.model_dump(warnings=False, exclude_none=True) for item in first.output),
        {"role": "user", "content": "And what is prefix caching?"},
    ]
    answer = respond(served, [tool(pages)], said)
    assert answer.output[0].queries == ["And what is prefix caching?"]
    check_blend(answer.blend)


def test_a_plain_response_has_a_blend_and_else_nothing_more(served):
    answer = respond(served, [], "What is the capital of France?")
    assert answer.blend["fallback"] == "no known chunk in the prompt"
    assert [item.type for item in answer.output] == ["message"] and answer.tools == []
    *_, last = respond(served, [], "Say hello.", stream=True)
    assert last.response.blend["chunks"] == []


def test_a_response_may_name_a_collection_and_a_vector_store_is_one(served, pages):
    answer = respond(served, [], extra_body={"rag": {"collection": pages, "top_k": 3}})
    assert answer.blend["fallback"] is None and len(sources(answer.blend)) == 3
    assert [item.type for item in answer.output] == ["message"]


def test_two_stores_that_share_a_prefix_are_searched_together(served, pages):
    made = served.client.files.create(file=("danube.txt", OTHER.encode()), purpose="assistants")
    other = served.client.vector_stores.create(file_ids=[made.id]).id
    served.client.vector_stores.files.poll(made.id, vector_store_id=other, poll_interval_ms=200)
    both = {**tool(pages), "vector_store_ids": [pages, other]}
    answer = respond(served, [both], "Where does the Danube rise?", include=["file_search_call.results"])
    assert "danube.txt" in {one.filename for one in answer.output[0].results}
    assert len({one.filename for one in answer.output[0].results}) > 1
    served.client.files.delete(made.id)
    answer = respond(served, [both], "Where does the Danube rise?", include=["file_search_call.results"])
    assert "danube.txt" not in {one.filename for one in answer.output[0].results}


def test_more_than_fits_is_not_taken(served, pages):
    answer = chat(served, [tool(pages, max_num_results=50)])
    assert answer.usage.prompt_tokens + 24 < 3072
    assert len(sources(answer.blend)) >= 4


@pytest.mark.parametrize("ask", [chat, respond])
def test_what_cannot_be_searched_is_refused(served, pages, ask):
    with pytest.raises(openai.NotFoundError, match="no vector store"):
        ask(served, [tool("vs_" + "0" * 24)])
    with pytest.raises(openai.BadRequestError, match="not available together|goes with none"):
        ask(served, [tool(pages)], extra_body={"rag": {"collection": pages}})
    with pytest.raises(openai.BadRequestError, match="max_num_results"):
        ask(served, [tool(pages, max_num_results=0)])
    with pytest.raises(openai.BadRequestError, match="eq"):
        ask(served, [tool(pages, filters={"type": "like", "key": "a", "value": "b"})])
    with pytest.raises(openai.BadRequestError, match="empty question"):
        ask(served, [tool(pages)], " ")
