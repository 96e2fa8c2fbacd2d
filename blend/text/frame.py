"""What stands before the documents in a prompt, and what stands behind them.

    head(prefix)                       documents                       tail(question, history)
    | system turn, user turn opened |  chunk SEPARATOR chunk ...  |  SEPARATOR question, turn closed |

The documents stand at the start of the first user turn, so the head depends on the prefix alone and
every chunk of a collection can be computed behind it, whatever is asked and however long a conversation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from blend.errors import ModelError

SEPARATOR = "\n\n"
"""Between chunks, and between the last chunk and the question."""

Message = Mapping[str, Any]
"""A turn as chat templates take it: `role`, `content` (text), and what else a template knows."""

# Private-use characters: no template gives them a meaning, and no text that is asked has them.
_DOCUMENTS = "\ue0a1documents\ue0a2"
_PREFIX = "\ue0a3prefix\ue0a4"


class ChatFrame:
    """Head and tail of a model's prompts, from its own chat template or without one.

    A template that has no system role, or puts the system text elsewhere, gets the prefix at the start of
    the first user turn. A document must not begin with whitespace: some templates strip a turn's text.

    Args:
        tokenizer: a Hugging Face tokenizer.

    Attributes:
        add_special_tokens: whether the tokenizer's own first tokens (BOS) go before the head. A chat
            template writes its own.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._has_template = getattr(tokenizer, "chat_template", None) is not None
        self._has_system = self._has_template and self._system_stays_in_front()
        self.add_special_tokens = not self._has_template

    def head(self, prefix: str) -> str:
        """Everything before the first document.

        Args:
            prefix: the collection's instruction; may be empty.

        Raises:
            ModelError: the chat template fails, or loses the user's text.
        """
        return self._render(prefix, "", ())[0]

    def tail(self, question: str, history: Sequence[Message] = ()) -> str:
        """Everything behind the last document, up to where the answer begins.

        Args:
            question: the last user turn.
            history: earlier turns, in order. The documents stand before the first user turn of all. Text
                of system turns goes right behind the documents, since the prefix holds their place.

        Raises:
            ModelError: the chat template fails, or loses the user's text.
        """
        return self._render("", question, history)[1]

    def _render(self, prefix: str, question: str, history: Sequence[Message]) -> tuple[str, str]:
        turns = list(_with_documents(question, history))
        if not self._has_template:
            return f"{prefix}{SEPARATOR}" if prefix else "", _plain_tail(turns)
        if prefix and self._has_system:
            turns = [{"role": "system", "content": prefix}, *turns]
        elif prefix:
            turns[0] = {**turns[0], "content": f"{prefix}{SEPARATOR}{turns[0]['content']}"}
        return self._cut(self._apply(turns))

    def _apply(self, turns: Sequence[Message]) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(turn) for turn in turns], tokenize=False, add_generation_prompt=True
                )
            )
        except TemplateError as error:
            raise ModelError(
                f"the model's chat template refuses this conversation ({error}): expected user and assistant "
                "in turns, the user first"
            ) from error

    def _cut(self, rendered: str) -> tuple[str, str]:
        head, found, tail = rendered.partition(_DOCUMENTS)
        if not found or _DOCUMENTS in tail:
            raise ModelError(
                "the model's chat template does not give the user's text once and unchanged: documents "
                "cannot be placed in it; give the model another chat template"
            )
        return head, tail

    def _system_stays_in_front(self) -> bool:
        """Whether a system turn is kept, before the documents and in one place, also in a conversation."""
        system = {"role": "system", "content": _PREFIX}
        history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            heads = {
                self._cut(self._apply([system, *_with_documents("c", turns)]))[0] for turns in ((), history)
            }
        except ModelError:
            return False
        return len(heads) == 1 and heads.pop().count(_PREFIX) == 1


def _with_documents(question: str, history: Sequence[Message]) -> Iterator[Message]:
    """The conversation, with the documents at the start of its first turn, which is the user's."""
    system = [str(turn["content"]) for turn in history if turn["role"] == "system"]
    turns = [turn for turn in history if turn["role"] != "system"]
    turns.append({"role": "user", "content": question})
    if turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": ""})
    first, *rest = turns
    parts = (_DOCUMENTS, *system, str(first["content"]))
    yield {**first, "content": SEPARATOR.join(part for part in parts if part)}
    yield from rest


def _plain_tail(turns: Sequence[Message]) -> str:
    """Without a chat template: questions and answers, written out."""
    asked = "".join(
        f"Question: {turn['content']}\nAnswer:"
        if turn["role"] == "user"
        else f" {turn['content']}{SEPARATOR}"
        for turn in turns
    )
    return SEPARATOR + asked.replace(_DOCUMENTS + SEPARATOR, "").replace(_DOCUMENTS, "")
