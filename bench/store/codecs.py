"""Codecs compared: bytes a token, speed of encoding and decoding, and what they cost a blend."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.fidelity.codec_run import CodecCost
from blend.chunks.chunk import ChunkKV
from blend.store.codecs.base import Codec
from blend.store.file_format.byte_source import HeldBytes
from blend.store.file_format.chunk_file import ChunkFile
from blend.store.file_format.recoding import to_file

BF16_BYTES = 2
_NO_COST = CodecCost(kl_blend=0.0, kl_added=0.0, kl_between=0.0, num=0)


@dataclass(frozen=True, slots=True)
class CodecFigures:
    """One codec.

    Attributes:
        bytes_per_token: of whole files, headers and ids included.
        ratio_to_bf16: how many times smaller than the bare numbers in bfloat16.
        encode_gb_s, decode_gb_s: bytes of the chunk's numbers in their own dtype a second, one chunk after
            another; a file's layout and checksums included. Medians.
        cost: of packing, in KL; None where no questions were given, zeros where nothing is lost.
    """

    name: str
    bytes_per_token: float
    ratio_to_bf16: float
    encode_gb_s: float
    decode_gb_s: float
    cost: CodecCost | None


def measure_codecs(
    chunks: Sequence[ChunkKV], codecs: Sequence[Codec], repetitions: int, costs: Mapping[str, CodecCost]
) -> list[CodecFigures]:
    """Figures of each codec, the codecs in turn in each repetition.

    Args:
        chunks: one at least, of one model.
        costs: by the codec's name, of those that were measured.
    """
    seconds: dict[str, tuple[list[float], list[float]]] = {codec.name: ([], []) for codec in codecs}
    sizes = dict.fromkeys(seconds, 0)
    for _ in range(repetitions):
        for codec in codecs:
            encoding = decoding = 0.0
            sizes[codec.name] = 0
            for chunk in chunks:
                started = time.perf_counter()
                data = to_file(chunk, codec)
                encoded = time.perf_counter()
                ChunkFile(HeldBytes(data), chunk.record.chunk_id).chunk()
                encoding += encoded - started
                decoding += time.perf_counter() - encoded
                sizes[codec.name] += len(data)
            for found, one in zip(seconds[codec.name], (encoding, decoding), strict=True):
                found.append(one)
    num_bytes = sum(chunk.num_bytes for chunk in chunks)
    tokens = sum(chunk.record.num_tokens for chunk in chunks)
    bf16 = sum(chunk.keys.numel() + chunk.values.numel() for chunk in chunks) * BF16_BYTES
    return [
        CodecFigures(
            name=codec.name,
            bytes_per_token=sizes[codec.name] / tokens,
            ratio_to_bf16=bf16 / sizes[codec.name],
            encode_gb_s=num_bytes / median(seconds[codec.name][0]) / 1e9,
            decode_gb_s=num_bytes / median(seconds[codec.name][1]) / 1e9,
            cost=costs.get(codec.name, _NO_COST if codec.is_lossless and costs else None),
        )
        for codec in codecs
    ]
