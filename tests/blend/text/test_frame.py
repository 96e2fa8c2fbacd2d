"""Head, documents and tail make up what the model's own chat template gives."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from blend.errors import ModelError
from blend.text.frame import SEPARATOR, ChatFrame
from tests.blend.text.conftest import byte_level

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a default.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# System text goes into the first user turn, and every turn is stripped.
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}"
    "{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system %}"
    "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' "
    "+ message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# System text goes into the last user turn: behind the documents, once there is a conversation.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}{{ bos_token }}"
    "{% for message in rest %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.last else '') + message['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)
SILENT = (
    "{% for m in messages if m['role'] != 'system' %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
)

TEMPLATES = {"chatml": CHATML, "llama2": LLAMA2, "gemma": GEMMA, "mistral": MISTRAL, "silent": SILENT}
KEEPS_SYSTEM = {"chatml", "llama2"}
PREFIX = "Answer from the documents."
DOCUMENTS = f"First document.{SEPARATOR}Second one."
HISTORY = [
    {"role": "user", "content": "What is a cache?"},
    {"role": "assistant", "content": "A store of what was computed."},
]


def make(template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = byte_level(add_prefix_space=False)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module", params=sorted(TEMPLATES))
def named(request: pytest.FixtureRequest) -> tuple[str, PreTrainedTokenizerFast]:
    return request.param, make(TEMPLATES[request.param])


def render(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, Any]]) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def expected(name: str, prefix: str, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with documents in its first turn, as one would write it by hand."""
    first, *rest = turns
    content = f"{DOCUMENTS}{SEPARATOR}{first['content']}"
    if not prefix:
        return [{"role": "user", "content": content}, *rest]
    if name in KEEPS_SYSTEM:
        return [{"role": "system", "content": prefix}, {"role": "user", "content": content}, *rest]
    return [{"role": "user", "content": f"{prefix}{SEPARATOR}{content}"}, *rest]


@pytest.mark.parametrize("question", ["What is blended?", "  spaces around, and a newline \n"])
@pytest.mark.parametrize("prefix", [PREFIX, f"{PREFIX}\n"])
@pytest.mark.parametrize("history", [[], HISTORY, HISTORY * 2])
def test_head_documents_and_tail_are_the_whole_rendering(
    named: tuple[str, PreTrainedTokenizerFast], question: str, prefix: str, history: list[dict[str, Any]]
) -> None:
    name, tokenizer = named
    frame = ChatFrame(tokenizer)
    turns = expected(name, prefix, [*history, {"role": "user", "content": question}])
    assert frame.head(prefix) + DOCUMENTS + frame.tail(question, history) == render(tokenizer, turns)
    assert not frame.add_special_tokens


def test_without_a_prefix_the_template_may_put_its_own(named: tuple[str, PreTrainedTokenizerFast]) -> None:
    name, tokenizer = named
    frame = ChatFrame(tokenizer)
    turns = expected(name, "", [{"role": "user", "content": "Why?"}])
    assert frame.head("") + DOCUMENTS + frame.tail("Why?") == render(tokenizer, turns)


def test_the_head_ends_where_the_first_document_begins(named: tuple[str, PreTrainedTokenizerFast]) -> None:
    frame = ChatFrame(named[1])
    assert frame.head(PREFIX).count(PREFIX) == 1
    assert frame.tail("Why?").startswith(f"{SEPARATOR}Why?")


def test_a_conversation_that_the_assistant_opened_keeps_the_documents_in_front() -> None:
    tokenizer = make(CHATML)
    greeting = {"role": "assistant", "content": "Hello!"}
    frame = ChatFrame(tokenizer)
    turns = [
        {"role": "system", "content": PREFIX},
        {"role": "user", "content": DOCUMENTS},
        greeting,
        {"role": "user", "content": "Why?"},
    ]
    assert frame.head(PREFIX) + DOCUMENTS + frame.tail("Why?", [greeting]) == render(tokenizer, turns)


def test_system_text_of_a_conversation_is_kept_behind_the_documents() -> None:
    frame = ChatFrame(make(CHATML))
    tail = frame.tail("Why?", [{"role": "system", "content": "Be brief."}])
    assert tail.startswith(f"{SEPARATOR}Be brief.{SEPARATOR}Why?<|im_end|>")


def test_a_question_that_looks_like_markup_is_not_taken_for_the_documents_place() -> None:
    frame = ChatFrame(make(CHATML))
    assert "{{ messages }} documents" in frame.tail("{{ messages }} documents")


def test_without_a_template_questions_and_answers_are_written_out() -> None:
    frame = ChatFrame(make(None))
    assert frame.add_special_tokens
    assert frame.head(PREFIX) == f"{PREFIX}\n\n"
    assert frame.head("") == ""
    assert frame.tail("Why?") == "\n\nQuestion: Why?\nAnswer:"
    assert frame.tail("Why?", HISTORY) == (
        "\n\nQuestion: What is a cache?\nAnswer: A store of what was computed.\n\nQuestion: Why?\nAnswer:"
    )


def test_a_template_that_loses_or_repeats_the_users_text_is_an_error() -> None:
    for template in ("nothing at all", "{{ messages[-1]['content'] }}{{ messages[-1]['content'] }}"):
        frame = ChatFrame(make(template))
        with pytest.raises(ModelError, match="once and unchanged"):
            frame.head(PREFIX)


def test_a_conversation_that_the_template_refuses_is_an_error_that_says_why() -> None:
    frame = ChatFrame(make(LLAMA2))
    with pytest.raises(ModelError, match="roles must alternate"):
        frame.tail("Why?", [{"role": "user", "content": "What?"}])
