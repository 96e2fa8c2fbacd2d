"""Where kvblend keeps things, and the defaults of a blend: each is written once, here."""

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class BlendDefaults:
    """What a request gets when it asks for nothing.

    Attributes:
        recompute_ratio: share of context tokens that are recomputed, in [0, 1].
        selector: rule that picks them.
        max_residual: what the ratio "auto" leaves at most of the question's attention on rows that
            approximate a full prefill's, in [0, 1].
        device_bytes: budget of the tier of chunk KV on each worker's device; "auto": as much as suits it.
        memory_bytes: budget of the in-memory tier of chunk KV in each worker.
        namespace_memory_bytes: the same for each namespace, beside it.
        kept_bytes: budget of the blends that each worker keeps to top up, where they are.
        codec: what packs chunk KV on its way to the disk, see `blend.store.codecs`.
    """

    recompute_ratio: float = 0.15
    selector: str = "question-late"
    max_residual: float = 0.05
    device_bytes: int | str = "auto"
    memory_bytes: int = 2 << 30
    namespace_memory_bytes: int = 256 << 20
    kept_bytes: int = 2 << 30
    codec: str = "uniform"


DEFAULTS = BlendDefaults()


def default_cache() -> Path:
    """Folder for converted models and fingerprints: `$KVBLEND_CACHE`, else `~/.cache/kvblend`."""
    return Path(os.environ.get("KVBLEND_CACHE") or Path.home() / ".cache" / "kvblend")
