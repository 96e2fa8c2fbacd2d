"""Where kvblend keeps things, and the defaults of a blend: each is written once, here."""

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class BlendDefaults:
    """What a request gets that names no value of its own.

    Attributes:
        recompute_ratio: share of context tokens that are recomputed, in [0, 1].
        selector: rule that picks them.
        max_residual: largest share of the question's attention, in [0, 1], that the ratio "auto" leaves on
            rows that approximate a full prefill's.
        kept_bytes: largest size of the blends that each worker keeps to top up, where they are.
    """

    recompute_ratio: float = 0.15
    selector: str = "question-late"
    max_residual: float = 0.05
    kept_bytes: int = 2 << 30


DEFAULTS = BlendDefaults()


def default_cache() -> Path:
    """Folder for converted models and fingerprints: `$KVBLEND_CACHE`, else `~/.cache/kvblend`."""
    return Path(os.environ.get("KVBLEND_CACHE") or Path.home() / ".cache" / "kvblend")
