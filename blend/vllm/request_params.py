"""The blending options of one request, as they travel in vLLM's `kv_transfer_params`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from blend.plan.ratio import AUTO, Ratio

KEY = "kvblend"
"""Our key in `kv_transfer_params`, in requests and in answers."""

FORCED = "kvblend_forced"
"""Key of a forced answer in `SamplingParams.extra_args`; see `blend.vllm.engine.forcing`."""


@dataclass(frozen=True, slots=True)
class BlendParams:
    """Options of one request; None takes the server's default.

    Attributes:
        gate_key: set by the self-check only; never accepted from a client.
        trace: report which context positions were recomputed; for measurements, never accepted from a client.
        detail: report what became of each context token.
        namespace: see `blend.chunks.namespace`; "" for none. Never accepted from a client.
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
        options = {name: value for name, value in asdict(self).items() if value is not None}
        for name in ("trace", "detail", "namespace"):
            if not options[name]:
                del options[name]
        return {KEY: options}

    @classmethod
    def from_transfer(cls, params: Mapping[str, Any] | None) -> "BlendParams":
        """Inverse of `to_transfer`; ignores other keys, and values of the wrong type.

        The HTTP side has refused invalid values before; in the scheduler no request may raise.
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
