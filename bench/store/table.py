"""The figures of `kvblend bench store` as a table and as one JSON line."""

from collections.abc import Sequence
from typing import Any

from api.cli.columns import aligned
from bench.store.codecs import CodecFigures
from bench.store.tiers import TierFigures


def as_object(tiers: Sequence[TierFigures], codecs: Sequence[CodecFigures]) -> dict[str, Any]:
    """What is printed as the JSON line."""
    return {
        "bench": "store",
        "tiers": [_tier(one) for one in tiers],
        "codecs": [_codec(one) for one in codecs],
    }


def render(tiers: Sequence[TierFigures], codecs: Sequence[CodecFigures]) -> str:
    """Tables, for people; none of tiers where none was measured."""
    places = [
        ("tier", "codec", "read GB/s", "plain read", "of it", "kept", "of it", "write GB/s", "GB of KV/s")
    ]
    places += [
        (
            one.name,
            one.codec,
            f"{one.read_gb_s:.2f}",
            f"{one.raw_read_gb_s:.2f}",
            f"{one.read_gb_s / one.raw_read_gb_s:.0%}",
            *_kept(one),
            f"{one.write_gb_s:.2f}",
            f"{one.kv_gb_s:.2f}",
        )
        for one in tiers
    ]
    packed = [
        (
            "codec",
            "bytes/token",
            "of bfloat16",
            "encode GB/s",
            "decode GB/s",
            "KL added",
            "of the blend's",
            "KL between",
        )
    ]
    packed += [
        (
            one.name,
            f"{one.bytes_per_token:,.0f}",
            f"1/{one.ratio_to_bf16:.2f}",
            f"{one.encode_gb_s:.2f}",
            f"{one.decode_gb_s:.2f}",
            *_cost(one),
        )
        for one in codecs
    ]
    table = aligned(packed, right=packed[0][1:])
    return f"{aligned(places, right=places[0][2:])}\n\n{table}" if tiers else table


def _kept(one: TierFigures) -> tuple[str, str]:
    if one.raw_kept_gb_s is None:
        return "-", "-"
    return f"{one.raw_kept_gb_s:.2f}", f"{one.read_gb_s / one.raw_kept_gb_s:.0%}"


def _cost(one: CodecFigures) -> tuple[str, str, str]:
    if one.cost is None:
        return "-", "-", "-"
    share = one.cost.kl_added / one.cost.kl_blend if one.cost.kl_blend else 0.0
    return f"{one.cost.kl_added:.5f}", f"{share:.1%}", f"{one.cost.kl_between:.5f}"


def _tier(one: TierFigures) -> dict[str, Any]:
    return {
        "name": one.name,
        "codec": one.codec,
        "read_gb_s": one.read_gb_s,
        "write_gb_s": one.write_gb_s,
        "raw_read_gb_s": one.raw_read_gb_s,
        "kv_gb_s": one.kv_gb_s,
        "raw_kept_gb_s": one.raw_kept_gb_s,
    }


def _codec(one: CodecFigures) -> dict[str, Any]:
    return {
        "name": one.name,
        "bytes_per_token": one.bytes_per_token,
        "ratio_to_bf16": one.ratio_to_bf16,
        "kl_added": None if one.cost is None else one.cost.kl_added,
        "encode_gb_s": one.encode_gb_s,
        "decode_gb_s": one.decode_gb_s,
        "kl_between": None if one.cost is None else one.cost.kl_between,
        "kl_blend": None if one.cost is None else one.cost.kl_blend,
        "questions": 0 if one.cost is None else one.cost.num,
    }
