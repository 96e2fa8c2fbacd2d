"""Which families can be blended, on the configurations that transformers itself ships."""

import pytest
import transformers
from transformers import PretrainedConfig

from blend.errors import NotBlendable
from blend.models.blendable import check_blendable

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512, "rope_theta": 1e4}
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
    "rope_theta": 5e5,
}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 48,
    "long_factor": [2.0] * 48,
    "original_max_position_embeddings": 4096,
    "rope_theta": 1e4,
    "factor": 32.0,
}
MROPE = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}


def config(family: str, **settings: object) -> PretrainedConfig:
    built: PretrainedConfig = getattr(transformers, f"{family}Config")(**settings)
    return built


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("Llama", {}),
        ("Llama", {"rope_parameters": LINEAR}),
        ("Llama", {"rope_parameters": LLAMA3}),
        ("Qwen2", {}),
        ("Qwen2", {"use_sliding_window": False, "sliding_window": 4096}),
        ("Qwen2", {"rope_parameters": YARN}),
        ("Qwen3", {}),
        ("Qwen2Moe", {}),
        ("Mistral", {"sliding_window": None}),
        ("Mixtral", {}),
        ("Phi", {"bos_token_id": 1, "eos_token_id": 2}),
        ("Phi3", {}),
        ("GPTNeoX", {}),
        ("GPTJ", {}),
        ("Falcon", {}),
        ("Glm4", {}),
        ("Olmo2", {}),
        ("Llava", {"text_config": {"model_type": "llama"}}),
    ],
)
def test_decoders_with_full_attention_and_static_rotary_pass(
    family: str, settings: dict[str, object]
) -> None:
    check_blendable(config(family, **settings))


@pytest.mark.parametrize(
    ("family", "settings", "reason"),
    [
        ("Llama", {"rope_parameters": DYNAMIC}, r"llama .*\(dynamic\) depends on the length"),
        ("Phi3", {"rope_parameters": LONGROPE}, r"phi3 .*\(longrope\) depends on the length"),
        ("GPT2", {}, "gpt2 .*no rotary"),
        ("OPT", {}, "opt .*no rotary"),
        ("Bloom", {}, "bloom .*no rotary"),
        ("Falcon", {"alibi": True}, "falcon .*ALiBi"),
        ("Mistral", {"sliding_window": 4096}, "mistral .*sliding window of 4096 tokens"),
        (
            "Qwen2",
            {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
            "sliding-window",
        ),
        ("Gemma2", {}, "gemma2 .*sliding-window"),
        ("Gemma3", {}, "gemma3 .*sliding-window"),
        ("GptOss", {}, "gpt_oss .*sliding-window"),
        ("Llama4Text", {}, "llama4_text .*chunked"),
        ("SmolLM3", {}, "smollm3 .*no rotary positions"),
        ("DeepseekV3", {}, "deepseek_v3 .*MLA"),
        ("MiniCPM3", {}, "minicpm3 .*MLA"),
        ("Mamba", {}, "mamba .*recurrent"),
        ("Rwkv", {}, "rwkv .*recurrent"),
        ("Qwen3Next", {}, "qwen3_next .*recurrent"),
        ("Jamba", {}, "jamba .*recurrent"),
        ("FalconH1", {}, "falcon_h1 .*recurrent"),
        ("RecurrentGemma", {}, "recurrent_gemma .*recurrent"),
        ("MiniMax", {}, "minimax .*recurrent"),
        ("T5", {}, "t5 .*encoder-decoder"),
        ("Bart", {}, "bart .*encoder-decoder"),
        ("Bert", {}, "bert .*no rotary"),
        ("Qwen2VLText", {"rope_parameters": MROPE}, "qwen2_vl_text .*M-RoPE"),
    ],
)
def test_a_model_that_cannot_be_blended_is_refused_by_name_and_reason(
    family: str, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(NotBlendable, match=reason):
        check_blendable(config(family, **settings))


def test_a_scaling_nobody_knows_is_refused_rather_than_trusted() -> None:
    unknown = config("Llama")
    unknown.rope_parameters = {"rope_type": "helical", "rope_theta": 1e4}
    with pytest.raises(NotBlendable, match="helical"):
        check_blendable(unknown)


def test_a_window_on_only_the_last_layer_is_found() -> None:
    kinds = ["full_attention"] * 3 + ["sliding_attention"]
    with pytest.raises(NotBlendable, match="sliding-window"):
        check_blendable(config("Qwen3", num_hidden_layers=4, layer_types=kinds, sliding_window=64))
