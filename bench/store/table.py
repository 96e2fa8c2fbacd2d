"""The figures of `kvblend bench store` as tables and as one JSON line."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.report import table
from bench.store.codecs import CodecFigures
from bench.store.tiers import TierFigures

_TIERS = ("tier", "codec", "read GB/s", "plain read", "of it", "kept", "of it", "write GB/s", "GB of KV/s")
_CODECS = (
    *("codec", "bytes/token", "of bfloat16", "encode GB/s", "decode GB/s"),
    *("KL added", "of the blend's", "KL between"),
)


def as_object(tiers: Sequence[TierFigures], codecs: Sequence[CodecFigures]) -> dict[str, Any]:
    """The object of the JSON line."""
    return {
        "bench": "store",
        "tiers": [asdict(one) for one in tiers],
        "codecs": [_codec(one) for one in codecs],
    }


def render(tiers: Sequence[TierFigures], codecs: Sequence[CodecFigures]) -> str:
    """A table of tiers, where some were measured, and one of codecs."""
    parts = [table(_TIERS, list(map(_tier_cells, tiers)), labels=2)] if tiers else []
    return "\n\n".join([*parts, table(_CODECS, list(map(_codec_cells, codecs)))])


def _tier_cells(one: TierFigures) -> tuple[str | None, ...]:
    kept = one.raw_kept_gb_s
    return (
        one.name,
        one.codec,
        *(f"{one.read_gb_s:.2f}", f"{one.raw_read_gb_s:.2f}", f"{one.read_gb_s / one.raw_read_gb_s:.0%}"),
        *((None, None) if kept is None else (f"{kept:.2f}", f"{one.read_gb_s / kept:.0%}")),
        *(f"{one.write_gb_s:.2f}", f"{one.kv_gb_s:.2f}"),
    )


def _codec_cells(one: CodecFigures) -> tuple[str | None, ...]:
    cost: tuple[str | None, ...] = (None, None, None)
    if one.cost is not None:
        share = one.cost.kl_added / one.cost.kl_blend if one.cost.kl_blend else 0.0
        cost = (f"{one.cost.kl_added:.5f}", f"{share:.1%}", f"{one.cost.kl_between:.5f}")
    return (
        *(one.name, f"{one.bytes_per_token:,.0f}", f"1/{one.ratio_to_bf16:.2f}"),
        *(f"{one.encode_gb_s:.2f}", f"{one.decode_gb_s:.2f}", *cost),
    )


def _codec(one: CodecFigures) -> dict[str, Any]:
    cost = one.cost
    return {
        "name": one.name,
        "bytes_per_token": one.bytes_per_token,
        "ratio_to_bf16": one.ratio_to_bf16,
        "kl_added": None if cost is None else cost.kl_added,
        "encode_gb_s": one.encode_gb_s,
        "decode_gb_s": one.decode_gb_s,
        "kl_between": None if cost is None else cost.kl_between,
        "kl_blend": None if cost is None else cost.kl_blend,
        "questions": 0 if cost is None else cost.num,
    }
