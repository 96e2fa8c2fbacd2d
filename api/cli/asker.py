"""Asking one question of a collection, with an engine started for the purpose or of a running server."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai

from api.cli.compare import LIKELIEST, Reply, Token
from api.server.chat.options import RagOptions
from api.server.chat.report import blend_object
from api.server.chat.retrieval import find
from api.server.collections.library import Library
from api.server.surface.keys import own_key
from api.server.surface.request import UNREPORTED
from blend.errors import EngineNotReady, RequestError
from blend.store.config import store_path
from blend.vllm.engine.engine import Engine
from retriever.errors import UnknownCollection


@dataclass(frozen=True, slots=True)
class Question:
    """What `kvblend ask` was asked.

    Attributes:
        rag: which chunks of which collection, and how they are blended.
        max_tokens: of the answer.
    """

    text: str
    rag: RagOptions
    max_tokens: int


class LocalAsker:
    """Answers one question from chunks that were retrieved once, so every answer has the same prompt."""

    def __init__(self, engine: Engine, library: Library, question: Question) -> None:
        self._engine = engine
        self._library = library
        self._question = question
        self._chunks = [hit.chunk_id for hit in find(library, question.rag, question.text)]
        self._options: dict[str, Any] = {
            "prefix": library.prefix_of(question.rag.collection),
            "recompute_ratio": question.rag.recompute_ratio,
            "selector": question.rag.selector,
            "max_tokens": question.max_tokens,
        }

    def ask(self, *, blend: bool, cache_salt: str | None, show: Callable[[str], None]) -> Reply:
        """As `Asker.ask`."""
        answer = None
        for delta in self._engine.stream(
            self._question.text, self._chunks, blend=blend, cache_salt=cache_salt, **self._options
        ):
            show(delta.text)
            answer = delta.answer or answer
        if answer is None:
            raise EngineNotReady("the engine ended the request without an answer; see its log")
        tokens = (Token(key, self._engine.tokenizer.decode([key]), {}) for key in answer.token_ids)
        blended = blend_object(answer.stats, self._library.source_of)
        return Reply(answer.text, answer.ttft_ms, blended, tuple(tokens))

    def likeliest(self, full: Reply, place: int) -> Mapping[Any, float]:
        """As `Asker.likeliest`."""
        asked = self._engine.ask(self._question.text, self._chunks, blend=False, **self._options)
        behind = (*asked.prompt_ids, *(token.key for token in full.tokens[:place]))
        answer = self._engine.submit(replace(asked, prompt_ids=behind, max_tokens=1, logprobs=LIKELIEST))
        return dict(answer.first_logprobs or {})


@contextmanager
def local_asker(question: Question, store: Path | None, model: str | None) -> Iterator[LocalAsker]:
    """Start an engine for a question, and stop it afterwards.

    Args:
        store: the default one when None.
        model: the collection's own when None.

    Raises:
        UnknownCollection: before any engine is started.
        ModelError: the collection was computed with another model.
    """
    library = Library(store_path(store), [question.rag.collection])
    namespace = library.namespace_of(question.rag.collection)
    with Engine(model or library.model_name, store, namespace=namespace) as engine:
        library.check_model(engine.fingerprint)
        yield LocalAsker(engine, library, question)


class RemoteAsker:
    """Answers through a server's chat route, with the `openai` client.

    Args:
        url: the server's base URL, with or without `/v1`.
        logprobs: have the server tell the likeliest tokens at each place, for `likeliest`.
    """

    def __init__(self, url: str, question: Question, *, logprobs: bool = False) -> None:
        base = url.rstrip("/").removesuffix("/v1") + "/v1"
        # A local server asks for no key unless it was started with one; the client insists on some value.
        self._client = openai.OpenAI(base_url=base, api_key=own_key(), max_retries=0)
        self._question = question
        self._extra: dict[str, Any] = {"logprobs": True, "top_logprobs": LIKELIEST} if logprobs else {}
        self._model: str | None = None

    def ask(self, *, blend: bool, cache_salt: str | None, show: Callable[[str], None]) -> Reply:
        """As `Asker.ask`."""
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
                **self._extra,
            )
            return _read(stream, begin, show)

    def likeliest(self, full: Reply, place: int) -> Mapping[Any, float]:
        """As `Asker.likeliest`."""
        return full.tokens[place].likeliest

    def _served_model(self) -> str:
        if self._model is None:
            self._model = self._client.models.list().data[0].id
        return self._model


def _read(stream: Any, begin: float, show: Callable[[str], None]) -> Reply:
    text: list[str] = []
    tokens: list[Token] = []
    ttft_ms = 0.0
    blend = blend_object(UNREPORTED, lambda chunk_id: None)
    with stream:
        for chunk in stream:
            blend = (chunk.model_extra or {}).get("blend") or blend
            [choice] = chunk.choices or [None]
            if choice and choice.logprobs:
                tokens += map(_token, choice.logprobs.content or ())
            if choice and (piece := choice.delta.content):
                ttft_ms = ttft_ms or (time.perf_counter() - begin) * 1e3
                text.append(piece)
                show(piece)
    return Reply("".join(text), ttft_ms, blend, tuple(tokens))


def _token(entry: Any) -> Token:
    likeliest = {_key(one): one.logprob for one in (entry, *entry.top_logprobs)}
    return Token(_key(entry), entry.token, likeliest)


def _key(entry: Any) -> bytes:
    return bytes(entry.bytes or ()) or entry.token.encode()


@contextmanager
def _as_ours() -> Iterator[None]:
    """Raise what the server refuses as the error that it is on this side too."""
    try:
        yield
    except openai.NotFoundError as error:
        raise UnknownCollection(_message(error)) from None
    except openai.BadRequestError as error:
        raise RequestError(_message(error)) from None
    except openai.APIConnectionError as error:
        where = f"{error.request.url.host}:{error.request.url.port}"
        raise EngineNotReady(f"no answer from {where} ({error.message}): is the server up?") from None
    except openai.APIError as error:
        raise EngineNotReady(_message(error)) from None


def _message(error: openai.APIError) -> str:
    """The server's own message, without the client's words around it."""
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else error.message
