"""The `file_search` tool of a request: taken out of its tools, since the server runs it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from api.server.errors import FieldError, wrong_field
from api.server.vector_stores.bodies import SearchOptions

TYPE = "file_search"


class FileSearchTool(SearchOptions):
    """The tool in the form of OpenAI's API: the question is searched for in vector stores."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=16)]


def split_tools(tools: Any) -> tuple[FileSearchTool | None, list[Any]]:
    """Split a list of tools into the `file_search` tool, if there is one, and the others.

    Raises:
        FieldError: there are two, or it is invalid.

    >>> split_tools([{"type": "function"}, {"type": "file_search", "vector_store_ids": ["vs_1"]}])[1]
    [{'type': 'function'}]
    """
    if not isinstance(tools, list):
        return None, []
    ours = [number for number, tool in enumerate(tools) if type_of(tool) == TYPE]
    others = [tool for tool in tools if type_of(tool) != TYPE]
    if not ours:
        return None, others
    if len(ours) > 1:
        raise FieldError(
            f"tools: got {len(ours)} file_search tools, expected one with all vector_store_ids", "tools"
        )
    return _parsed(tools[ours[0]], f"tools.{ours[0]}"), others


def is_wanted(tool_choice: Any) -> bool:
    """Whether a request's `tool_choice` allows the search.

    >>> [is_wanted(choice) for choice in (None, "auto", {"type": "file_search"}, "none")]
    [True, True, True, False]
    """
    return tool_choice in (None, "auto", "required") or type_of(tool_choice) == TYPE


def taken_out(body: Mapping[str, Any]) -> dict[str, Any]:
    """A chat request's body with the tool moved from `tools` to the field `file_search`.

    >>> taken_out({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}], "tool_choice": "auto"})
    {'file_search': FileSearchTool(filters=None, max_num_results=None, ranking_options=None, \
type='file_search', vector_store_ids=['vs_1'])}

    Raises:
        FieldError: as `split_tools`.
    """
    tool, others = split_tools(body.get("tools"))
    if tool is None:
        return dict(body)
    choice = body.get("tool_choice")
    rest = {key: value for key, value in body.items() if key not in ("tools", "tool_choice")}
    if others:
        rest["tools"] = others
        rest["tool_choice"] = "none" if type_of(choice) == TYPE else choice or "auto"
    if is_wanted(choice):
        rest[TYPE] = tool
    return rest


def type_of(tool: Any) -> Any:
    """The `type` of a tool, an item or a part, as JSON or as a model; None without one."""
    return tool.get("type") if isinstance(tool, Mapping) else getattr(tool, "type", None)


def _parsed(tool: Any, field: str) -> FileSearchTool:
    given = tool if isinstance(tool, Mapping) else tool.model_dump(exclude_unset=True)
    try:
        return FileSearchTool.model_validate(given)
    except ValidationError as error:
        place = error.errors(include_url=False)[0]["loc"]
        raise wrong_field(error, ".".join([field, *map(str, place)])) from None
