"""Asking with an engine of one's own, started for the purpose."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from api.cli.compare import Reply
from api.cli.question import Question
from api.server.chat.report import blend_object
from api.server.chat.retrieval import find
from api.server.collections.library import Library
from blend.errors import EngineNotReady
from blend.store.config import store_path
from blend.vllm.engine.engine import Engine


class LocalAsker:
    """Answers one question from chunks that were retrieved once, so every answer has the same prompt."""

    def __init__(self, engine: Engine, library: Library, question: Question) -> None:
        self._engine = engine
        self._library = library
        self._question = question
        self._prefix = library.prefix_of(question.rag.collection)
        hits = find(library, question.rag, question.text)
        self._chunks: Sequence[str] = [hit.chunk_id for hit in hits]

    def ask(self, *, blend: bool, cache_salt: str | None, show: Callable[[str], None]) -> Reply:
        """As `api.cli.compare.Asker`."""
        answer = None
        for delta in self._engine.stream(
            self._question.text,
            self._chunks,
            prefix=self._prefix,
            recompute_ratio=self._question.rag.recompute_ratio,
            selector=self._question.rag.selector,
            blend=blend,
            max_tokens=self._question.max_tokens,
            cache_salt=cache_salt,
        ):
            show(delta.text)
            answer = delta.answer or answer
        if answer is None:
            raise EngineNotReady("the engine ended the request without an answer; see its log")
        return Reply(answer.text, answer.ttft_ms, blend_object(answer.stats, self._library.source_of))


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
