"""Asking a running server, with the `openai` client."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai

from api.cli.compare import Reply
from api.cli.question import Question
from api.server.chat.report import blend_object
from api.server.surface.keys import own_key
from api.server.surface.request import UNREPORTED
from blend.errors import EngineNotReady, RequestError
from retriever.errors import UnknownCollection


class RemoteAsker:
    """Answers through a server's chat route.

    Args:
        url: the server's base URL, with or without `/v1`.
    """

    def __init__(self, url: str, question: Question) -> None:
        base = url.rstrip("/").removesuffix("/v1") + "/v1"
        # A local server asks for no key unless it was started with one; the client insists on some value.
        self._client = openai.OpenAI(base_url=base, api_key=own_key(), max_retries=0)
        self._question = question
        self._model: str | None = None

    def ask(self, *, blend: bool, cache_salt: str | None, show: Callable[[str], None]) -> Reply:
        """As `api.cli.compare.Asker`."""
        question = self._question
        rag = question.rag.model_dump(mode="json", exclude_unset=True)
        body: dict[str, Any] = {"rag": rag, "blend": {"enabled": blend}}
        if cache_salt is not None:
            body["cache_salt"] = cache_salt
        with _as_ours():
            model = self._served_model()
            begin = time.perf_counter()
            stream = self._client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": question.text}],
                max_tokens=question.max_tokens,
                temperature=0.0,
                stream=True,
                extra_body=body,
            )
            return _read(stream, begin, show)

    def _served_model(self) -> str:
        if self._model is None:
            self._model = self._client.models.list().data[0].id
        return self._model


def _read(stream: Any, begin: float, show: Callable[[str], None]) -> Reply:
    text: list[str] = []
    ttft_ms = 0.0
    blend = blend_object(UNREPORTED, lambda chunk_id: None)
    with stream:
        for chunk in stream:
            blend = (chunk.model_extra or {}).get("blend") or blend
            piece = chunk.choices[0].delta.content if chunk.choices else None
            if piece:
                ttft_ms = ttft_ms or (time.perf_counter() - begin) * 1e3
                text.append(piece)
                show(piece)
    return Reply("".join(text), ttft_ms, blend)


@contextmanager
def _as_ours() -> Iterator[None]:
    """The server's refusals as the errors that they are on this side too."""
    try:
        yield
    except openai.NotFoundError as error:
        raise UnknownCollection(_said(error)) from None
    except openai.BadRequestError as error:
        raise RequestError(_said(error)) from None
    except openai.APIConnectionError as error:
        where = f"{error.request.url.host}:{error.request.url.port}"
        raise EngineNotReady(f"no answer from {where} ({error.message}): is the server up?") from None
    except openai.APIError as error:
        raise EngineNotReady(_said(error)) from None


def _said(error: openai.APIError) -> str:
    """The server's own message, without the client's words around it."""
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else error.message
