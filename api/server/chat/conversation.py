"""Where retrieved chunks stand in a chat: behind the collection's prefix, before everything that was said.

This is the layout of `blend.text.frame`, as messages, so that vLLM renders them with its own template
options and tools. Rendered, they begin with the very head that the chunks were computed behind.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from api.server.errors import FieldError
from blend.text.frame import SEPARATOR, ChatFrame

Message = dict[str, Any]
"""A message as OpenAI's chat API has it."""

_SYSTEM_ROLES = ("system", "developer")


def has_system_role(tokenizer: Any) -> bool:
    """Whether a prefix goes into a system message; otherwise it opens the first user message.

    Args:
        tokenizer: a Hugging Face tokenizer. One without a chat template makes no difference here: vLLM
            refuses to chat with it.
    """
    if tokenizer.chat_template is None:
        return True
    turns = [{"role": "system", "content": "prefix"}, {"role": "user", "content": "documents"}]
    try:
        rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return False
    return bool(rendered.startswith(ChatFrame(tokenizer).head("prefix") + "documents"))


def plain_messages(messages: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Messages whose text is one string; content that comes in parts may be read only once.

    Raises:
        FieldError: a system or user message holds more than text.
    """
    return [
        {**message, "content": _text(message, number)}
        if message["role"] in ("user", *_SYSTEM_ROLES)
        else {**message}
        for number, message in enumerate(messages)
    ]


def question_of(messages: Sequence[Message]) -> str:
    """Text of the last user message: what is searched for.

    Raises:
        FieldError: there is none, or it is blank.

    >>> question_of([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}])
    'Why?'
    """
    asked = [message["content"] for message in messages if message["role"] == "user"]
    if not asked or not asked[-1].strip():
        raise FieldError(
            "messages: got an empty question, expected text in the last user message", "messages"
        )
    question: str = asked[-1]
    return question


def lay_out(
    messages: Sequence[Message], prefix: str, texts: Sequence[str], *, system_role: bool
) -> list[Message]:
    """The conversation with the chunks at the start of its first user message.

    Args:
        messages: with plain text, see `plain_messages`. Their own system text goes right behind the chunks,
            since the prefix holds its place.
        prefix: the collection's; may be empty.
        texts: the chunks', in order.
        system_role: see `has_system_role`.

    >>> lay_out([{"role": "user", "content": "Why?"}], "Read.", ["A.", "B."], system_role=False)
    [{'role': 'user', 'content': 'Read.\\n\\nA.\\n\\nB.\\n\\nWhy?'}]
    """
    told = [message["content"] for message in messages if message["role"] in _SYSTEM_ROLES]
    turns = [message for message in messages if message["role"] not in _SYSTEM_ROLES]
    if turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": ""})
    first, *rest = turns
    parts = ["" if system_role else prefix, *texts, *told, first["content"]]
    content = SEPARATOR.join(part for part in parts if part)
    system = [{"role": "system", "content": prefix}] if system_role and prefix else []
    return [*system, {**first, "content": content}, *rest]


def _text(message: Mapping[str, Any], number: int) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in content]
    if any(part.get("type") != "text" for part in parts):
        field = f"messages.{number}.content"
        raise FieldError(f"{field}: got more than text, which cannot be answered from a collection", field)
    return "\n".join(str(part["text"]) for part in parts)
