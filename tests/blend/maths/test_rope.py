"""Realigning keys, against rotary embedding written out and against transformers' own rotary modules."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from blend.errors import RequestError
from blend.maths.rope import realign, rotation
from tests.reference.rotation import rope, table
from tests.support.tolerances import ROTATION, assert_close

HEAD_SIZE = 16
INV_FREQ = 100.0 ** -(torch.arange(0, HEAD_SIZE, 2) / HEAD_SIZE)
TABLE = table(INV_FREQ, 512)

SCALINGS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
}


def keys_of(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("stored", "delta"), [(0, 1), (7, 100), (300, -300), (200, -13)])
def test_realigned_key_equals_key_rotated_there(stored: int, delta: int, interleaved: bool) -> None:
    keys = keys_of(5, 2, HEAD_SIZE)
    moved = realign(rope(keys, INV_FREQ, stored, interleaved), rotation(TABLE, delta), interleaved)
    assert_close(moved, rope(keys, INV_FREQ, stored + delta, interleaved), ROTATION)


@pytest.mark.parametrize("interleaved", [False, True])
def test_the_two_layouts_are_not_the_same(interleaved: bool) -> None:
    keys = keys_of(5, 2, HEAD_SIZE)
    wrong = realign(rope(keys, INV_FREQ, 3, interleaved), rotation(TABLE, 9), not interleaved)
    assert (wrong - rope(keys, INV_FREQ, 12, interleaved)).abs().max() > 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_distance_gives_the_same_bits(dtype: torch.dtype) -> None:
    keys = keys_of(4, 2, HEAD_SIZE, dtype=dtype)
    keys[0, 0, 0], keys[0, 0, 1] = -0.0, torch.inf  # 1 * -0 - 0 * inf would be NaN
    moved = realign(keys, rotation(TABLE, 0))
    assert moved.dtype == dtype
    assert torch.equal(moved, keys)


def test_realigning_twice_adds() -> None:
    keys = keys_of(6, 3, HEAD_SIZE)
    twice = realign(realign(keys, rotation(TABLE, 250)), rotation(TABLE, -60))
    assert_close(twice, realign(keys, rotation(TABLE, 190)), ROTATION)


def test_there_and_back_gives_the_key() -> None:
    keys = keys_of(6, 3, HEAD_SIZE)
    assert_close(realign(realign(keys, rotation(TABLE, 77)), rotation(TABLE, -77)), keys, ROTATION)


@pytest.mark.parametrize("interleaved", [False, True])
def test_dimensions_beyond_the_rotary_width_pass_unchanged(interleaved: bool) -> None:
    keys = keys_of(5, 2, HEAD_SIZE + 6)
    moved = realign(rope(keys, INV_FREQ, 11, interleaved), rotation(TABLE, 40), interleaved)
    assert_close(moved, rope(keys, INV_FREQ, 51, interleaved), ROTATION)
    assert torch.equal(moved[..., HEAD_SIZE:], keys[..., HEAD_SIZE:])


def test_stored_keys_are_never_written_to() -> None:
    keys = keys_of(3, 4, 2, HEAD_SIZE)
    before = keys.clone()
    moved = realign(keys, rotation(TABLE, 5))
    assert torch.equal(keys, before)
    assert moved.data_ptr() != keys.data_ptr()


def test_all_layers_at_once_give_what_each_layer_gives() -> None:
    keys = keys_of(3, 4, 2, HEAD_SIZE)
    turn = rotation(TABLE, -21)
    assert torch.equal(realign(keys, turn), torch.stack([realign(layer, turn) for layer in keys]))


def test_bfloat16_is_computed_in_float32_and_cast_once() -> None:
    keys = keys_of(50, 2, HEAD_SIZE, dtype=torch.bfloat16)
    turn = rotation(TABLE, 123)
    assert torch.equal(realign(keys, turn), realign(keys.float(), turn).bfloat16())


@pytest.mark.parametrize("delta", [512, -512, 9999])
def test_a_distance_beyond_the_table_is_refused(delta: int) -> None:
    with pytest.raises(RequestError, match=f"by {delta} positions.* has 512; use a shorter prompt"):
        rotation(TABLE, delta)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("delta", [90, -90])
def test_realigned_key_equals_what_transformers_rotates(scaling: str, delta: int) -> None:
    rotary = LlamaRotaryEmbedding(
        LlamaConfig(
            hidden_size=4 * HEAD_SIZE,
            num_attention_heads=4,
            max_position_embeddings=512,
            rope_parameters={"rope_theta": 10000.0, **SCALINGS[scaling]},
        )
    )
    keys = keys_of(1, 2, 8, HEAD_SIZE)

    def rotated(first: int) -> torch.Tensor:
        cos, sin = rotary(keys, torch.arange(first, first + 8)[None])
        return apply_rotary_pos_emb(keys, keys, cos, sin)[1]

    cos, sin = rotary(keys, torch.arange(512)[None])
    own_table = torch.cat([t[0, :, : HEAD_SIZE // 2] for t in (cos, sin)], dim=1)
    assert_close(realign(rotated(100), rotation(own_table, delta)), rotated(100 + delta), ROTATION)


def test_yarn_folds_a_factor_into_its_table_and_the_keys_keep_it_once() -> None:
    scaled = 1.139 * TABLE
    keys = keys_of(5, 2, HEAD_SIZE)
    assert_close(realign(keys, rotation(scaled, 30)), realign(keys, rotation(TABLE, 30)), ROTATION)
    norms = realign(keys, rotation(scaled, 30)).norm(dim=-1)
    assert_close(norms, keys.norm(dim=-1), ROTATION)
