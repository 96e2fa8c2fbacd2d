"""`/v1/chat/completions`, with `documents` and `file_search` in its body; all else of it is vLLM's own."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import Field, PrivateAttr, model_validator
from vllm.entrypoints.openai.chat_completion import api_router as theirs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.utils.api_utils import validate_json_request

from api.server.chat_documents.forms import ChatDocument
from api.server.file_search.tool import FileSearchTool, taken_out

PATH = "/v1/chat/completions"


class BlendChatRequest(ChatCompletionRequest):
    """A chat request.

    vLLM's own takes documents in one form, and shows them to chat templates that know of them; those may
    still be given in `chat_template_kwargs`.
    """

    documents: list[str | ChatDocument] | None = Field(  # type: ignore[assignment]
        default=None,
        description="Documents to answer from: strings, objects with `text` and `title`, or Cohere's form.",
    )
    file_search: FileSearchTool | None = Field(
        default=None, description="The tool of that name, which clients send among `tools`."
    )
    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def take_file_search_out(cls, body: Any) -> Any:
        """vLLM's tools are functions alone; this runs before it looks at them."""
        return taken_out(body) if isinstance(body, dict) else body


def sources_of(request: Any) -> dict[str, str]:
    """Where a request's own chunks come from, by their ids; to be filled when it is laid out."""
    return request._sources if isinstance(request, BlendChatRequest) else {}


def take_over_chat_route(app: FastAPI) -> None:
    """Put a router with our route in the place of vLLM's route; nothing happens where it has none."""
    routes = [route for route in app.router.routes if isinstance(route, APIRoute) and route.path == PATH]
    for route in routes:
        app.router.routes.remove(route)
        app.include_router(_router(route))


def _router(route: APIRoute) -> APIRouter:
    router = APIRouter()

    @router.post(PATH, dependencies=[Depends(validate_json_request)], responses=route.responses)
    async def create_chat_completion(request: BlendChatRequest, raw_request: Request) -> Any:
        """Answer a conversation; see the README for `documents`, `rag` and `blend` in the body."""
        return await theirs.create_chat_completion(request, raw_request)

    return router
