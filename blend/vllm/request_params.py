"""What one request says about blending, on its way through vLLM's `kv_transfer_params`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

KEY = "kvblend"
"""Our own place in `kv_transfer_params`, in requests and in answers."""


@dataclass(frozen=True, slots=True)
class BlendParams:
    """Options of one request; None takes the server's default.

    Attributes:
        gate_key: set by the self-check only; never taken from a client.
    """

    enabled: bool = True
    recompute_ratio: float | None = None
    selector: str | None = None
    gate_key: str | None = None

    def to_transfer(self) -> dict[str, Any]:
        """The `kv_transfer_params` that carry these options."""
        return {KEY: {name: value for name, value in asdict(self).items() if value is not None}}

    @classmethod
    def from_transfer(cls, params: Mapping[str, Any] | None) -> "BlendParams":
        """Inverse of `to_transfer`; keys that are not ours are left alone, odd values of ours ignored.

        The HTTP side has refused bad values already; in the scheduler no request may raise.
        """
        ours = (params or {}).get(KEY)
        if not isinstance(ours, Mapping):
            return cls()
        ratio, name, key = ours.get("recompute_ratio"), ours.get("selector"), ours.get("gate_key")
        return cls(
            enabled=ours.get("enabled") is not False,
            recompute_ratio=float(ratio) if isinstance(ratio, int | float) else None,
            selector=name if isinstance(name, str) else None,
            gate_key=key if isinstance(key, str) else None,
        )
