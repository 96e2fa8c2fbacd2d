"""Where chunks stand in a conversation: rendered, it is the frame that they were computed behind."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from api.server.chat.retrieval import has_system_role, lay_out, plain_messages, question_of
from api.server.errors import FieldError
from blend.text.frame import SEPARATOR, ChatFrame

CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{{ '<turn>' + m['role'] + '\n' + (m['content'] | trim) + '</turn>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
PREFIX = "Answer from the documents."
TEXTS = ["First chunk.", "Second chunk.\nOf two lines."]
HISTORY = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "A cache."},
]


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template)


@pytest.mark.parametrize("history", [[], HISTORY], ids=["one turn", "conversation"])
@pytest.mark.parametrize("prefix", [PREFIX, ""])
@pytest.mark.parametrize(("template", "system"), [(CHATML, True), (NO_SYSTEM, False)])
def test_rendered_it_is_head_documents_and_tail(template, system, prefix, history):
    served = tokenizer(template)
    assert has_system_role(served) is system
    messages = lay_out([*history, {"role": "user", "content": "Why?"}], prefix, TEXTS, system_role=system)
    rendered = served.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    frame = ChatFrame(served)
    assert rendered == frame.head(prefix) + SEPARATOR.join(TEXTS) + frame.tail("Why?", history)


def test_the_clients_own_system_text_stands_behind_the_chunks():
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    messages = lay_out(asked, PREFIX, TEXTS, system_role=True)
    assert messages == [
        {"role": "system", "content": PREFIX},
        {"role": "user", "content": SEPARATOR.join([*TEXTS, "Be brief.", "Why?"])},
    ]


def test_later_turns_keep_what_else_they_carry():
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    reply = {"role": "tool", "tool_call_id": "1", "content": "12:00"}
    messages = lay_out([{"role": "user", "content": "When?"}, call, reply], PREFIX, TEXTS, system_role=True)
    assert messages[2:] == [call, reply]


def test_a_conversation_that_the_assistant_opened_gets_a_user_turn_for_the_chunks():
    opened = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Why?"}]
    messages = lay_out(opened, "", TEXTS, system_role=True)
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[0]["content"] == SEPARATOR.join(TEXTS)


def test_content_in_parts_is_read_even_when_it_can_be_read_only_once():
    parts = iter([{"type": "text", "text": "Why"}, {"type": "text", "text": "so?"}])
    [message] = plain_messages([{"role": "user", "content": parts}])
    assert question_of([message]) == "Why\nso?"


def test_an_image_is_refused_by_the_message_that_holds_it():
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    with pytest.raises(FieldError) as refused:
        plain_messages([*HISTORY, {"role": "user", "content": [image]}])
    assert refused.value.param == "messages.2.content"


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": " \n"}], HISTORY[1:]])
def test_without_a_question_there_is_nothing_to_retrieve(messages):
    with pytest.raises(FieldError, match="question"):
        question_of(messages)


def test_a_model_without_a_chat_template_is_left_to_vllm():
    assert has_system_role(tokenizer(None))
