"""What one request says about blending, on its way through vLLM's `kv_transfer_params`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from blend.plan.ratio import AUTO, Ratio

KEY = "kvblend"
"""Our own place in `kv_transfer_params`, in requests and in answers."""

FORCED = "kvblend_forced"
"""Place of an answer that is given, in `SamplingParams.extra_args`; see `blend.vllm.engine.forcing`."""


@dataclass(frozen=True, slots=True)
class BlendParams:
    """Options of one request; None takes the server's default.

    Attributes:
        gate_key: set by the self-check only; never taken from a client.
        trace: tell which context positions were recomputed; for the laboratory, never taken from a client.
        detail: tell what became of each context token.
        namespace: see `blend.namespace`; "" for none. Never taken from a client.
    """

    enabled: bool = True
    recompute_ratio: Ratio | None = None
    selector: str | None = None
    gate_key: str | None = None
    trace: bool = False
    detail: bool = False
    namespace: str = ""

    def to_transfer(self) -> dict[str, Any]:
        """The `kv_transfer_params` that carry these options."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        for name in ("trace", "detail", "namespace"):
            if not said[name]:
                del said[name]
        return {KEY: said}

    @classmethod
    def from_transfer(cls, params: Mapping[str, Any] | None) -> "BlendParams":
        """Inverse of `to_transfer`; keys that are not ours are left alone, odd values of ours ignored.

        The HTTP side has refused bad values already; in the scheduler no request may raise.
        """
        ours = (params or {}).get(KEY)
        if not isinstance(ours, Mapping):
            return cls()
        ratio, name, key = ours.get("recompute_ratio"), ours.get("selector"), ours.get("gate_key")
        namespace = ours.get("namespace")
        return cls(
            enabled=ours.get("enabled") is not False,
            recompute_ratio=_ratio(ratio),
            selector=name if isinstance(name, str) else None,
            gate_key=key if isinstance(key, str) else None,
            trace=ours.get("trace") is True,
            detail=ours.get("detail") is True,
            namespace=namespace if isinstance(namespace, str) else "",
        )


def _ratio(value: object) -> Ratio | None:
    if value == AUTO:
        return AUTO
    return float(value) if isinstance(value, int | float) else None
