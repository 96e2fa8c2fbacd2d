"""What every codec keeps of a layer, and what it does with numbers that are out of the ordinary."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blend.chunks.chunk import ChunkKV, make_record
from blend.errors import ConfigError
from blend.store.codecs import NAMES, by_tag, codec, fitting, tag_of
from blend.store.codecs.base import RAW, Codec

CODECS = [codec(name) for name in NAMES]
LOSSY = [one for one in CODECS if not one.is_lossless]
ROUNDING = {torch.float32: 1e-6, torch.float16: 2**-11, torch.bfloat16: 2**-8}
"""Of a number: what its dtype rounds."""
Bound = Callable[[torch.Tensor], torch.Tensor]


def layer(seed: int, tokens: int, heads: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[2, T, H, D] with channels of different spread and mean."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(heads, size, generator=generator) * 3
    mean = torch.randn(heads, size, generator=generator)
    return (torch.randn(2, tokens, heads, size, generator=generator) * spread + mean).to(dtype)


def there_and_back(one: Codec, kv: torch.Tensor, index: int = 0) -> torch.Tensor:
    payload = one.encode(kv, index, 3)
    assert isinstance(payload, bytes) and one.encode(kv.clone(), index, 3) == payload
    back = torch.full_like(kv, float("nan"))
    one.decode(memoryview(payload), back)
    return back


def by_spread(wide: torch.Tensor) -> torch.Tensor:
    """Half of the wider step: the stated part of the spread, or what 127 of them need."""
    off = wide.flatten(2).clone()  # [2, T, C]
    off[0] -= off[0].mean(dim=0, keepdim=True)
    step = torch.empty_like(off)
    for one, sharing in ((0, (0, 1)), (1, (1,))):
        spread = off[one].square().mean(dim=sharing, keepdim=True).sqrt()
        step[one] = torch.maximum(0.2 * spread, off[one].abs().amax(dim=sharing, keepdim=True) / 127)
    return step.view(wide.shape) / 2


def by_difference(wide: torch.Tensor) -> torch.Tensor:
    """Half a step of the farthest difference that there can be, at the widest steps of all."""
    return torch.full_like(wide, 0.25 * float(wide.flatten(2).std(dim=1, correction=0).amax()) * 2 + 1e-6)


BOUNDS: dict[str, Bound] = {
    "raw": torch.zeros_like,
    "uniform": by_spread,
    "cachegen": by_difference,
}


@pytest.mark.parametrize("one", CODECS, ids=lambda one: one.name)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    tokens=st.integers(1, 70),
    heads=st.integers(1, 3),
    size=st.sampled_from([1, 4, 6, 64]),
    dtype=st.sampled_from([*ROUNDING]),
)
def test_what_comes_back_is_within_the_bound(
    one: Codec, seed: int, tokens: int, heads: int, size: int, dtype: torch.dtype
) -> None:
    kv = layer(seed, tokens, heads, size, dtype)
    back = there_and_back(one, kv)
    assert back.dtype == dtype and back.shape == kv.shape
    bound = BOUNDS[one.name](kv.float())
    rounding = ROUNDING[dtype] * (kv.float().abs() + bound) if not one.is_lossless else 0
    # Steps and centres are float16: rounded by a thousandth. What a centre is off by then, 127 steps reach.
    centres = 2**-11 * kv.float().abs().amax() / 254 if not one.is_lossless else 0
    allowed = bound * 1.02 + rounding + 2e-3 * bound.amax() + centres
    assert bool(((back.float() - kv.float()).abs() <= allowed).all())


@pytest.mark.parametrize("one", CODECS, ids=lambda one: one.name)
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("number", [0.0, 1.0, -3.7, 1e-5, 3e4])
def test_constants_come_back(one: Codec, dtype: torch.dtype, number: float) -> None:
    kv = torch.full((2, 13, 2, 4), number, dtype=dtype)
    assert torch.allclose(there_and_back(one, kv).float(), kv.float(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("one", LOSSY, ids=lambda one: one.name)
@pytest.mark.parametrize("far", [1e3, 1e6, -1e30])
def test_one_huge_key_comes_back_and_harms_no_value(one: Codec, far: float) -> None:
    kv = layer(0, 20, 2, 8)
    quiet = there_and_back(one, kv)
    kv[0, 7, 1, 3] = far
    back = there_and_back(one, kv)
    assert bool(torch.isfinite(back).all())
    assert float(back[0, 7, 1, 3]) == pytest.approx(far, rel=0.05)
    assert torch.equal(back[1], quiet[1])  # values are packed apart from keys


@pytest.mark.parametrize("one", LOSSY, ids=lambda one: one.name)
def test_packing_is_the_same_on_any_number_of_threads(one: Codec) -> None:
    kv, threads = layer(1, 300, 3, 64), torch.get_num_threads()
    try:
        payloads = []
        for num in (1, 2, 4):
            torch.set_num_threads(num)
            payloads.append(one.encode(kv, 0, 3))
    finally:
        torch.set_num_threads(threads)
    assert payloads[0] == payloads[1] == payloads[2]


@pytest.mark.parametrize("one", LOSSY, ids=lambda one: one.name)
def test_long_chunks_are_smaller_than_bfloat16(one: Codec) -> None:
    kv = layer(2, 400, 3, 64)
    assert len(one.encode(kv, 2, 3)) * 3 < kv.numel() * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_is_found_by_its_name_and_by_what_a_file_says(name: str) -> None:
    assert codec(name) is by_tag(tag_of(codec(name)))
    assert by_tag(f"{name}/0") is None


def test_an_unknown_codec_is_an_error_that_names_the_others() -> None:
    with pytest.raises(ConfigError, match="got codec 'zip', expected one of: raw, uniform"):
        codec("zip")


@pytest.mark.parametrize(
    ("dtype", "spoil", "prefix", "packed"),
    [
        (torch.float32, 0.0, 2, True),
        (torch.bfloat16, 0.0, 2, True),
        (torch.float16, 0.0, 2, True),
        (torch.float64, 0.0, 2, False),
        (torch.float8_e4m3fn, 0.0, 2, False),
        (torch.float32, float("inf"), 2, False),
        (torch.float32, float("nan"), 2, False),
        (torch.float32, 0.0, 0, False),
    ],
)
def test_which_chunks_are_kept_as_they_are(
    dtype: torch.dtype, spoil: float, prefix: int, packed: bool
) -> None:
    kv = layer(0, 3, 2, 4)
    kv[1, 2, 0, 0] += spoil
    chunk = ChunkKV(make_record("m", range(prefix), [1, 2, 3]), kv[:1].to(dtype), kv[1:].to(dtype))
    wanted = codec("uniform")
    assert fitting(wanted, chunk.record, chunk.keys, chunk.values) is (wanted if packed else RAW)
