"""vLLM's own chat and completion handlers, with `rag` and `blend` read and statistics put into answers.

Both subclasses keep every behaviour of their base: they touch the request before it and the outputs and
events around it. They take over what vLLM has built, so its options need not be repeated here.
"""

from collections.abc import AsyncGenerator
from types import AsyncGeneratorType
from typing import Any, TypeVar

from fastapi import Request
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest, ChatCompletionResponse
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest, CompletionResponse
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.engine.protocol import UsageInfo

from api.server.chat.closing import closed_at_end
from api.server.chat.options import RequestOptions, read_options, transfer_params
from api.server.chat.report import Reporter
from api.server.chat.retrieval import Retrieval
from api.server.chat.route import sources_of
from api.server.chat_documents.chat import ChatDocuments
from api.server.errors import FieldError
from api.server.file_search.citations import cited_answer, cited_events
from api.server.file_search.searching import FileSearch
from api.server.file_search.tool import FileSearchTool
from api.server.surface.keys import namespace_of
from blend.select import check_rule
from blend.settings.defaults import DEFAULTS as BLEND_DEFAULTS
from blend.vllm.request_params import KEY

Handler = TypeVar("Handler")
Asked = TypeVar("Asked", ChatCompletionRequest, CompletionRequest, ResponsesRequest)


def take_over(kind: type[Handler], built: Any, **ours: Any) -> Handler:
    """A handler of our kind in the place of one that vLLM has built, with what it needs of ours."""
    handler = kind.__new__(kind)
    vars(handler).update(vars(built), **ours)
    return handler


class BlendChat(OpenAIServingChat):
    """`/v1/chat/completions`.

    Attributes:
        file_search: None where there are no vector stores.
        documents: None leaves a request's `documents` to the chat template, as vLLM does.
    """

    retrieval: Retrieval
    documents: ChatDocuments | None
    file_search: FileSearch | None

    async def create_chat_completion(
        self, request: ChatCompletionRequest, raw_request: Request | None = None
    ) -> Any:
        options = options_of(request)
        tool = getattr(request, "file_search", None)
        if tool is not None:
            return await self._search(request, raw_request, options, tool)
        if options.rag is not None:
            if request.echo:
                raise FieldError("echo: not available together with rag", "echo")
            if request.documents:
                raise FieldError("documents: not available together with rag; send either", "documents")
            messages: Any = await self.retrieval.messages(options.rag, request.messages)
            request.messages = messages
        elif request.documents and self.documents is not None:
            await self._lay_out(request, self.documents)
        return closed_at_end(await super().create_chat_completion(request, raw_request), raw_request)

    async def _search(
        self,
        request: ChatCompletionRequest,
        raw_request: Request | None,
        options: RequestOptions,
        tool: FileSearchTool,
    ) -> Any:
        """Answer from vector stores, citing their files."""
        if options.rag is not None or request.documents or request.echo:
            raise FieldError("tools: file_search goes with none of rag, documents and echo", "tools")
        if self.file_search is None:
            raise FieldError("tools: got file_search, but this server has no vector stores", "tools")
        said = request.max_completion_tokens or request.max_tokens
        found = await self.file_search.find(tool, request.messages, namespace_of(raw_request), said)
        messages: Any = found.messages
        request.messages = messages
        sources_of(request).update(found.sources)
        answer = await super().create_chat_completion(request, raw_request)
        if isinstance(answer, ChatCompletionResponse):
            return cited_answer(answer, found.files)
        if isinstance(answer, AsyncGeneratorType):
            answer = cited_events(answer, found.files)
        return closed_at_end(answer, raw_request)

    async def _lay_out(self, request: ChatCompletionRequest, documents: ChatDocuments) -> None:
        if request.echo:
            raise FieldError("echo: not available together with documents", "echo")
        laid = await documents.lay_out(request.documents or (), request.messages)
        messages: Any = laid.messages
        request.messages, request.documents = messages, None
        sources_of(request).update(laid.sources)

    async def chat_completion_stream_generator(
        self, request: ChatCompletionRequest, result_generator: Any, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[str, None]:
        reporter = _reporter(request, self.retrieval)
        events = super().chat_completion_stream_generator(
            request, reporter.watch(result_generator), *args, **kwargs
        )
        async for event in reporter.annotate(events):
            yield event

    async def chat_completion_full_generator(
        self, request: ChatCompletionRequest, result_generator: Any, *args: Any, **kwargs: Any
    ) -> Any:
        reporter = _reporter(request, self.retrieval)
        answer = await super().chat_completion_full_generator(
            request, reporter.watch(result_generator), *args, **kwargs
        )
        return _report(answer, reporter) if isinstance(answer, ChatCompletionResponse) else answer


class BlendCompletion(OpenAIServingCompletion):
    """`/v1/completions`."""

    retrieval: Retrieval

    async def create_completion(self, request: CompletionRequest, raw_request: Request | None = None) -> Any:
        if options_of(request).rag is not None:
            raise FieldError("rag: only chat requests are answered from a collection", "rag")
        return closed_at_end(await super().create_completion(request, raw_request), raw_request)

    async def completion_stream_generator(
        self, request: CompletionRequest, engine_inputs: Any, result_generator: Any, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[str, None]:
        reporter = _reporter(request, self.retrieval)
        events = super().completion_stream_generator(
            request, engine_inputs, reporter.watch_many(result_generator), *args, **kwargs
        )
        async for event in reporter.annotate(events):
            yield event

    def request_output_to_completion_response(
        self, final_res_batch: list[Any], request: CompletionRequest, *args: Any, **kwargs: Any
    ) -> CompletionResponse:
        reporter = _reporter(request, self.retrieval)
        for prompt, output in enumerate(final_res_batch):
            reporter.take(prompt, output)
        answer = super().request_output_to_completion_response(final_res_batch, request, *args, **kwargs)
        return _report(answer, reporter)


def options_of(request: Asked) -> RequestOptions:
    """Read the extra fields of a request and send its blend's options on to the engine.

    Raises:
        FieldError, RequestError: one is wrong.
    """
    options = read_options(request.model_extra)
    blend = options.merged()
    # An unknown name, or one that cannot stand with the ratio, is the client's error.
    check_rule(blend.recompute_ratio or 0.0, blend.selector or BLEND_DEFAULTS.selector)
    if blend.model_fields_set:
        request.kv_transfer_params = {**(request.kv_transfer_params or {}), **transfer_params(blend)}
    return options


def _reporter(request: ChatCompletionRequest | CompletionRequest, retrieval: Retrieval) -> Reporter:
    own = sources_of(request)

    def source_of(chunk_id: str) -> str | None:
        return own.get(chunk_id) or retrieval.library.source_of(chunk_id)

    return Reporter(request.n or 1, source_of, retrieval.texts_of)


Answered = TypeVar("Answered", ChatCompletionResponse, CompletionResponse)


def _report(answer: Answered, reporter: Reporter) -> Answered:
    usage = answer.usage.model_dump()
    reporter.amend_usage(usage)
    others = {key: value for key, value in (answer.kv_transfer_params or {}).items() if key != KEY}
    update = {
        "usage": UsageInfo.model_validate(usage),
        "kv_transfer_params": others or None,
        "blend": reporter.blend(),
    }
    return answer.model_copy(update=update)
