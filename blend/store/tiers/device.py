"""The device tier: hot chunks lie where the model runs, and a blend takes them from there."""

import torch

from blend.report.metrics import Meter
from blend.store.base import ChunkStore
from blend.store.tiers.cached import CachedStore
from blend.store.tiers.place import Place

AUTO_SHARE = 0.5
"""Of what is free on a CUDA device when its engine has taken its pages: the rest is for what varies."""


class DeviceStore(CachedStore):
    """The most recently used chunks of `inner`, on a device; implements `blend.store.base.ChunkStore`.

    What it gives are the heads of its place, all chunks alike. It keeps a chunk when it is used, as the
    memory tier does, and passes it through, on the host, when there is no room for it on the device.

    Attributes:
        inner, budget_bytes, held_bytes: see `CachedStore`; the bytes are those on the device.
    """

    def __init__(
        self, inner: ChunkStore, budget_bytes: int, place: Place, meter: Meter | None = None
    ) -> None:
        super().__init__(inner, budget_bytes, meter, tier="device", place=place)


def place_on(device: torch.device, heads: slice) -> Place:
    """The place of one worker, which its model's thread asks for."""
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None
    return Place(device, heads, stream)


def resolve_device_bytes(said: int | str, device: torch.device) -> int:
    """Budget of a device's tier; asked when the engine has taken what it wants.

    Args:
        said: bytes, or "auto": none on a CPU, where the device's memory is that of the memory tier, and on a
            CUDA device a share of what is free.

    >>> [resolve_device_bytes(said, torch.device("cpu")) for said in ("auto", 4096)]
    [0, 4096]
    """
    if isinstance(said, int):
        return said
    if device.type != "cuda":
        return 0
    return int(AUTO_SHARE * torch.cuda.mem_get_info(device)[0])
