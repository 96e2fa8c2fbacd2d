"""One measured request: its FLOPs, and where its time went."""

from dataclasses import dataclass

from bench.cost import ModelShape, blend_flops, full_flops
from bench.ttft.arm import Arm
from bench.ttft.backend import Reply
from bench.ttft.case import Case
from blend.select import selector

STAGES = ("match", "load", "realign", "select", "recompute", "write", "suffix")
"""What a blend's statistics may name, as `<stage>_ms`, in the order in which it happens."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One request.

    Attributes:
        cpu_ms: of the engine's processes; of requests that came together, each one's equal share.
    """

    case: Case
    arm: Arm
    context_tokens: int
    suffix_tokens: int
    cpu_ms: float
    reply: Reply

    @property
    def num_tokens(self) -> int:
        """Of the whole prompt."""
        return self.context_tokens + self.suffix_tokens

    @property
    def hit_share(self) -> float:
        """Share of the prompt's tokens that lay in the engine's pages before the last step."""
        return self.reply.hit_tokens / self.num_tokens


def flops_share(shape: ModelShape, one: Measured) -> float:
    """FLOPs up to the first token, over those of a full prefill of the same prompt."""
    stats, hit = one.reply.stats, one.reply.hit_tokens
    # A blend that was found as it is, or never made, has not looked at anything.
    looked = stats.fallback is None and stats.times.select_ms > 0
    rule = selector(stats.selector) if looked else None
    by_layer = [stats.selected] * shape.num_layers
    flops = blend_flops(shape, rule, by_layer, hit, one.num_tokens - hit)
    return flops / full_flops(shape, one.num_tokens)


def stages_ms(reply: Reply) -> dict[str, float]:
    """Milliseconds by stage, which add up to the time to first token.

    `suffix`, or `prefill` where nothing was blended, is what the engine says its prefill took; `scheduling`
    is what is left: messages between processes, and the engine's steps. Where it does not say, both together
    are `rest`.
    """
    named = {name: getattr(reply.stats.times, f"{name}_ms", None) for name in STAGES}
    stages = {name: float(ms) for name, ms in named.items() if ms is not None}
    if reply.stats.fallback is not None:
        stages = {"match": stages["match"]} if stages["match"] else {}
    if "suffix" not in stages and reply.prefill_ms is not None:
        stages["suffix" if reply.stats.fallback is None else "prefill"] = reply.prefill_ms
    rest = "scheduling" if {"suffix", "prefill"} & stages.keys() else "rest"
    return {**stages, rest: reply.ttft_ms - sum(stages.values())}
