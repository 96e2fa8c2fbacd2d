"""The `file_search` tool is taken out of a chat's body, with what it says checked."""

import pytest

from api.server.chat.route import BlendChatRequest
from api.server.errors import FieldError
from api.server.file_search.tool import split_tools

FILE_SEARCH = {"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 3}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
MESSAGES = [{"role": "user", "content": "Why?"}]


def asked(**body: object) -> BlendChatRequest:
    return BlendChatRequest.model_validate({"messages": MESSAGES, **body})


@pytest.mark.parametrize("choice", [None, "auto", "required", {"type": "file_search"}])
def test_the_tool_alone_leaves_no_tools_behind(choice):
    body = {} if choice is None else {"tool_choice": choice}
    request = asked(tools=[FILE_SEARCH], **body)
    assert request.file_search is not None and request.file_search.max_num_results == 3
    assert request.tools is None and request.tool_choice == "none"


def test_functions_beside_it_stay():
    request = asked(tools=[FUNCTION, FILE_SEARCH])
    assert request.file_search is not None
    assert [tool.function.name for tool in request.tools or ()] == ["f"]
    assert request.tool_choice == "auto"
    assert asked(tools=[FUNCTION, FILE_SEARCH], tool_choice={"type": "file_search"}).tool_choice == "none"


def test_a_request_that_wants_another_tool_or_none_is_not_searched_for():
    assert asked(tools=[FILE_SEARCH], tool_choice="none").file_search is None
    named = {"type": "function", "function": {"name": "f"}}
    request = asked(tools=[FUNCTION, FILE_SEARCH], tool_choice=named)
    assert request.file_search is None and request.tools is not None


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([FILE_SEARCH, FILE_SEARCH], "tools"),
        ([{"type": "file_search"}], "tools.0.vector_store_ids"),
        ([{"type": "file_search", "vector_store_ids": []}], "tools.0.vector_store_ids"),
        ([{"type": "file_search", "vector_store_ids": [1]}], "tools.0.vector_store_ids.0"),
        ([FUNCTION, {**FILE_SEARCH, "max_num_results": 0}], "tools.1.max_num_results"),
        ([{**FILE_SEARCH, "more": 1}], "tools.0.more"),
        ([{**FILE_SEARCH, "ranking_options": {"ranker": "x"}}], "tools.0.ranking_options.ranker"),
    ],
)
def test_a_tool_that_is_wrong_is_named(tools, param):
    with pytest.raises(FieldError) as refused:
        split_tools(tools)
    assert refused.value.param == param


def test_without_it_nothing_changes():
    request = asked(tools=[FUNCTION], tool_choice="required")
    assert request.file_search is None and request.tool_choice == "required"
    assert asked().tools is None
