"""`/v1/chat/completions` and `/v1/completions`: chunks go in before vLLM's handler, figures into its answer.

vLLM's handlers are called as its own routes call them; nothing inside them is replaced.
"""

from collections.abc import Mapping
from types import AsyncGeneratorType
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import Field, model_validator
from vllm.entrypoints.openai.chat_completion import api_router as theirs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest, ChatCompletionResponse
from vllm.entrypoints.openai.completion.protocol import CompletionRequest, CompletionResponse
from vllm.entrypoints.serve.engine.protocol import UsageInfo
from vllm.entrypoints.serve.utils.api_utils import validate_json_request

from api.server.chat.closing import closed_at_end
from api.server.chat.options import RequestOptions, take_options
from api.server.chat.report import Edit, Reporter, edited
from api.server.chat.retrieval import LaidOut, Retrieval
from api.server.chat_documents.chat import ChatDocuments
from api.server.chat_documents.forms import ChatDocument
from api.server.errors import FieldError
from api.server.file_search.citations import Citations
from api.server.file_search.searching import FileSearch, Found
from api.server.file_search.tool import FileSearchTool, taken_out
from api.server.surface.request import UNREPORTED, EngineCall, calls_in_force, namespace_of
from blend.vllm.request_params import KEY

PATH = "/v1/chat/completions"
Answer = TypeVar("Answer", ChatCompletionResponse, CompletionResponse)


class BlendChatRequest(ChatCompletionRequest):
    """A chat request with `documents` and `file_search`.

    vLLM's own request takes documents in one form, for chat templates that know documents; those may still be
    given in `chat_template_kwargs`.
    """

    documents: list[str | ChatDocument] | None = Field(  # type: ignore[assignment]
        default=None,
        description="Documents to answer from: strings, objects with `text` and `title`, or Cohere's form.",
    )
    file_search: FileSearchTool | None = Field(
        default=None, description="The tool of that name, which clients send among `tools`."
    )

    @model_validator(mode="before")
    @classmethod
    def take_file_search_out(cls, body: Any) -> Any:
        """vLLM's tools are functions alone; this runs before vLLM validates them."""
        return taken_out(body) if isinstance(body, dict) else body


def take_over_chat_route(app: FastAPI) -> None:
    """Replace vLLM's chat route, if there is one, by a route that takes a `BlendChatRequest`."""
    routes = [route for route in app.router.routes if isinstance(route, APIRoute) and route.path == PATH]
    for route in routes:
        app.router.routes.remove(route)
        app.include_router(_router(route))


def _router(route: APIRoute) -> APIRouter:
    router = APIRouter()

    @router.post(PATH, dependencies=[Depends(validate_json_request)], responses=route.responses)
    async def create_chat_completion(request: BlendChatRequest, raw_request: Request) -> Any:
        """Answer a conversation; `rag`, `blend` and `documents` in the body are kvblend's own."""
        return await theirs.create_chat_completion(request, raw_request)

    return router


class Handler:
    """A handler of vLLM's, called with kvblend's part before and after; all else is vLLM's own.

    Args:
        inner: the handler that vLLM has built.
    """

    def __init__(self, inner: Any, retrieval: Retrieval) -> None:
        self._inner = inner
        self._retrieval = retrieval

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _reporter(
        self, request: ChatCompletionRequest | CompletionRequest, sources: Mapping[str, str]
    ) -> Reporter:
        """What reports on a request's prompts.

        Args:
            sources: names of documents that the request brought, by the ids of their chunks.
        """

        def source_of(chunk_id: str) -> str | None:
            return sources.get(chunk_id) or self._retrieval.library.source_of(chunk_id)

        # A beam search calls the engine for every token; none of its calls stands for the answer.
        calls = [EngineCall(0, stats=UNREPORTED)] if request.use_beam_search else calls_in_force()
        return Reporter(calls, request.n or 1, source_of, self._retrieval.texts_of)


class BlendChat(Handler):
    """`/v1/chat/completions`.

    Args:
        documents: None leaves a request's `documents` to the chat template, as vLLM does.
        file_search: None where there are no vector stores.
    """

    def __init__(
        self,
        inner: Any,
        retrieval: Retrieval,
        documents: ChatDocuments | None,
        file_search: FileSearch | None,
    ) -> None:
        super().__init__(inner, retrieval)
        self._documents = documents
        self._file_search = file_search

    async def create_chat_completion(
        self, request: ChatCompletionRequest, raw_request: Request | None = None
    ) -> Any:
        """As vLLM's handler does it, from the chunks that the request names."""
        laid = await self._lay_out(request, take_options(request), namespace_of(raw_request))
        reporter = self._reporter(request, {} if laid is None else laid.sources)
        edits: list[Edit] = [reporter]
        if laid is not None:
            messages: Any = laid.messages
            request.messages, request.documents = messages, None
            edits += [] if laid.files is None else [Citations(laid.files)]
        answer = await self._inner.create_chat_completion(request, raw_request)
        if isinstance(answer, ChatCompletionResponse):
            answer = reported(answer, reporter)
            return answer if laid is None or laid.files is None else Citations(laid.files).cited(answer)
        return closed_at_end(
            edited(answer, edits) if isinstance(answer, AsyncGeneratorType) else answer, raw_request
        )

    async def _lay_out(
        self, request: ChatCompletionRequest, options: RequestOptions, namespace: str
    ) -> LaidOut | Found | None:
        """The conversation with its chunks; None where the request names none."""
        tool: FileSearchTool | None = getattr(request, "file_search", None)
        sources = {"rag": options.rag, "documents": request.documents, "file_search": tool}
        named = [name for name, value in sources.items() if value]
        if not named or (named == ["documents"] and self._documents is None):
            return None
        if len(named) > 1 or request.echo:
            other = [*named, "echo"][1]
            field = "tools" if other == "file_search" else other
            raise FieldError(
                f"{field}: {other} is not available together with {named[0]}; send either", field
            )
        if options.rag is not None:
            return await self._retrieval.lay_out_found(options.rag, request.messages)
        if tool is None:
            assert self._documents is not None
            return await self._documents.lay_out(request.documents or (), request.messages)
        if self._file_search is None:
            raise FieldError("tools: got file_search, but this server has no vector stores", "tools")
        max_tokens = request.max_completion_tokens or request.max_tokens
        return await self._file_search.find(tool, request.messages, namespace, max_tokens)


class BlendCompletion(Handler):
    """`/v1/completions`."""

    async def create_completion(self, request: CompletionRequest, raw_request: Request | None = None) -> Any:
        """As vLLM's handler does it."""
        if take_options(request).rag is not None:
            raise FieldError("rag: only chat requests are answered from a collection", "rag")
        reporter = self._reporter(request, {})
        answer = await self._inner.create_completion(request, raw_request)
        if isinstance(answer, CompletionResponse):
            return reported(answer, reporter)
        return closed_at_end(
            edited(answer, [reporter]) if isinstance(answer, AsyncGeneratorType) else answer, raw_request
        )


def reported(answer: Answer, reporter: Reporter) -> Answer:
    """An answer with its statistics, which the engine's transfer parameters no longer repeat."""
    usage = answer.usage.model_dump()
    reporter.amend_usage(usage)
    others = {key: value for key, value in (answer.kv_transfer_params or {}).items() if key != KEY}
    update = {
        "usage": UsageInfo.model_validate(usage),
        "kv_transfer_params": others or None,
        "blend": reporter.blend(),
    }
    return answer.model_copy(update=update)
