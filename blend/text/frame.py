"""The parts of a prompt before and after the documents: head and tail.

    head(prefix)                       documents                       tail(question, history)
    | system turn, user turn opened |  chunk SEPARATOR chunk ...  |  SEPARATOR question, turn closed |

The documents stand at the start of the first user turn. So the head depends on the prefix only, and every
chunk of a collection can be computed behind it, for any question and any length of conversation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from blend.errors import ModelError

SEPARATOR = "\n\n"
"""Between chunks, and between the last chunk and the question."""

Message = Mapping[str, Any]
"""A turn in the form of chat templates: `role`, `content` (text), and other keys that a template uses."""

# Private-use characters: no template gives them a meaning, and no question contains them.
_DOCUMENTS = "\ue0a1documents\ue0a2"
_PREFIX = "\ue0a3prefix\ue0a4"


class ChatFrame:
    """Head and tail of a model's prompts, from its own chat template or without one.

    If a template has no system role, or moves the system text, the prefix goes to the start of the first user
    turn. A document must not begin with whitespace, because some templates strip a turn's text.

    Args:
        tokenizer: a Hugging Face tokenizer.

    Attributes:
        add_special_tokens: whether the tokenizer's first tokens (BOS) go before the head. A chat template
            writes them itself.
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
        """Everything after the last document, up to the start of the answer.

        Args:
            question: the last user turn.
            history: earlier turns, in order. The documents stand at the start of the first user turn. The
                text of system turns follows the documents, because the prefix takes the place of a system
                turn.

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
                f"the model's chat template refuses this conversation ({error}): expected alternating "
                "user and assistant turns, the user first"
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
        """Whether the template keeps a system turn, once and before the documents, in longer conversations
        too."""
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
    """The conversation with the documents at the start of its first turn, a user turn."""
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
    """The tail without a chat template: questions and answers, written out."""
    asked = "".join(
        f"Question: {turn['content']}\nAnswer:"
        if turn["role"] == "user"
        else f" {turn['content']}{SEPARATOR}"
        for turn in turns
    )
    return SEPARATOR + asked.replace(_DOCUMENTS + SEPARATOR, "").replace(_DOCUMENTS, "")
