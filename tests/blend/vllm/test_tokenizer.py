"""vLLM's renderer, tokenising in pieces where known chunks stand and as always elsewhere."""

import asyncio
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from blend.text.chunk_texts import ChunkTexts

pytestmark = pytest.mark.slow  # importing vLLM takes seconds

CHUNK = "The keys and values of earlier tokens are kept, so that each step computes only its own"
CORPUS = [CHUNK, "Before it and after it stands other text.", "Hello there, hello again, of its ownership."]
TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's configuration with a byte-level BPE trained on the corpus."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS * 4, trainer)
    path = tmp_path_factory.mktemp("model")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=TEMPLATE,
        eos_token="<|im_end|>",
        additional_special_tokens=special,
    )
    tokenizer.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(path)
    return path


class Known:
    def chunk_texts(self) -> ChunkTexts:
        return ChunkTexts([CHUNK])


@pytest.fixture(scope="module")
def renderers(folder):
    """Ours, knowing the chunk, and vLLM's own."""
    from vllm.config import ModelConfig, VllmConfig
    from vllm.renderers.registry import renderer_from_config

    from blend.vllm.plugin import MODE, register

    register()
    register()  # vLLM loads plugins more than once

    def build(mode: str):
        model = ModelConfig(str(folder), tokenizer_mode=mode, dtype="float32", max_model_len=256)
        return renderer_from_config(VllmConfig(model_config=model))

    ours, theirs = build(MODE), build("auto")
    yield ours, theirs
    ours.shutdown()
    theirs.shutdown()


def ids(renderer, text: str, *, add_special_tokens: bool = True, **limits) -> list[int]:
    from vllm.renderers import TokenizeParams

    params = TokenizeParams(max_total_tokens=256, add_special_tokens=add_special_tokens, **limits)
    [prompt] = asyncio.run(renderer.tokenize_prompts_async([{"prompt": text}], params))
    return list(prompt["prompt_token_ids"])


@pytest.mark.parametrize("text", ["Hello there", "", CHUNK[:-1], "<|im_start|>user\nHello<|im_end|>\n"])
def test_text_without_a_known_chunk_gets_vllms_own_ids(renderers, text):
    ours, theirs = renderers
    ours.know(Known())
    assert ids(ours, text) == ids(theirs, text)


def test_a_renderer_that_was_told_of_no_texts_is_vllms_own(renderers, folder):
    from blend.vllm.tokenizer import SegmentingRenderer

    ours, theirs = renderers
    untold = SegmentingRenderer(ours.config, ours.get_tokenizer())
    assert ids(untold, f"Before{CHUNK}after") == ids(theirs, f"Before{CHUNK}after")
    untold.shutdown()


def test_a_known_chunks_ids_stand_whole_before_text_that_would_merge_with_it(renderers):
    ours, theirs = renderers
    ours.know(Known())
    text = f"Hello there {CHUNK}ership"
    alone = theirs.get_tokenizer().encode(CHUNK, add_special_tokens=False)
    found = ids(ours, text)
    assert any(found[i : i + len(alone)] == alone for i in range(len(found)))
    assert theirs.get_tokenizer().decode(found) == text
    whole = ids(theirs, text)
    assert not any(whole[i : i + len(alone)] == alone for i in range(len(whole)))


def test_truncation_and_the_length_check_are_vllms_own(renderers):
    from vllm.exceptions import VLLMValidationError

    ours, _ = renderers
    ours.know(Known())
    text = f"Hello {CHUNK} there"
    whole = ids(ours, text)
    assert ids(ours, text, truncate_prompt_tokens=5) == whole[-5:]
    with pytest.raises(VLLMValidationError, match="maximum context length"):
        ids(ours, " ".join([text] * 20))


def test_a_chat_is_rendered_as_text_and_then_cut(renderers):
    from vllm.renderers import ChatParams, TokenizeParams

    ours, theirs = renderers
    ours.know(Known())
    messages = [{"role": "user", "content": f"Hello\n\n{CHUNK}\n\nagain"}]
    params = TokenizeParams(max_total_tokens=256, add_special_tokens=False)
    chat = ChatParams(chat_template_kwargs={"tokenize": False})
    _, [prompt] = asyncio.run(ours.render_chat_async([messages], chat, params))
    found = list(prompt["prompt_token_ids"])
    alone = theirs.get_tokenizer().encode(CHUNK, add_special_tokens=False)
    assert any(found[i : i + len(alone)] == alone for i in range(len(found)))
    assert theirs.get_tokenizer().decode(found).startswith("<|im_start|>user\nHello\n\nThe keys")
