"""Rates of precomputing and of plain prefill, each token counted for what it is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.report import table

if TYPE_CHECKING:
    from bench.precompute.precomputing import Job, Material, Prefill

_LEGEND = """\
{chunks} chunks of {chunk_tokens} tokens, each stored in two versions; medians of {repetitions} repetitions,
both arms alternating. Document tokens count once, computed tokens once for each version. computing: the time
less that of storing, measured by itself; computing and storing: the job's own clock; whole job: with reading,
embedding and publishing. The engine's own prefill: the same chunks behind the same text, in one batch, with
the text before them in the prefix cache."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second: medians over the repetitions.

    Attributes:
        computing: chunk KV tokens, by the time of computing alone.
        computed: chunk KV tokens, by the time of computing and storing.
        document: document tokens, by that time.
        whole_job: chunk KV tokens, by the whole job's time.
        whole_job_document: document tokens, by the whole job's time.
        prefill: the engine's own, of both versions' prompts.
        prefill_plain: the engine's own, of the plain versions' prompts.
        computed_over_prefill: chunk KV tokens against prefilled tokens: what the aim is about.
        computing_over_prefill: the same without storing.
        whole_job_over_prefill: the same, by the whole job's time.
        document_over_prefill: document tokens against those of plain prompts prefilled: two versions' cost.
    """

    computing: float
    computed: float
    document: float
    whole_job: float
    whole_job_document: float
    prefill: float
    prefill_plain: float
    computed_over_prefill: float
    computing_over_prefill: float
    whole_job_over_prefill: float
    document_over_prefill: float


def make_rates(material: "Material", jobs: "Sequence[Job]", prefills: "Sequence[Prefill]") -> Rates:
    """Rates of repetitions; ratios are of the two arms of one repetition, and then their median."""
    each = [_rates(material.document_tokens, material.kv_tokens, *pair) for pair in _pairs(jobs, prefills)]
    names = each[0].keys()
    return Rates(**{name: median(one[name] for one in each) for name in names})


def render_rates(rates: Rates, material: "Material", repetitions: int) -> str:
    """What was computed, at which rate, against the engine's own prefill."""
    rows = [
        ("computing", "", f"{rates.computing:.0f}", f"{rates.computing_over_prefill:.3f}"),
        (
            *("computing and storing", f"{rates.document:.0f}"),
            *(f"{rates.computed:.0f}", f"{rates.computed_over_prefill:.3f}"),
        ),
        (
            *("whole job", f"{rates.whole_job_document:.0f}"),
            *(f"{rates.whole_job:.0f}", f"{rates.whole_job_over_prefill:.3f}"),
        ),
        ("the engine's own prefill", f"{rates.prefill_plain:.0f}", f"{rates.prefill:.0f}", "1"),
    ]
    legend = _LEGEND.format(
        chunks=len(material.texts), chunk_tokens=material.chunk_tokens, repetitions=repetitions
    )
    once = f"Document tokens/s against the engine's, which reads them once: {rates.document_over_prefill:.3f}"
    text = table(("", "document tokens/s", "computed tokens/s", "over prefill"), rows)
    return f"{text}\n\n{once}\n{legend}"


def as_object(rates: Rates) -> dict[str, Any]:
    """One key per rate, and one per ratio."""
    return {
        name if "_over_" in name else f"{name}_tokens_per_s": value for name, value in asdict(rates).items()
    }


def _pairs(jobs: "Sequence[Job]", prefills: "Sequence[Prefill]") -> "list[tuple[Job, Prefill]]":
    return list(zip(jobs, prefills, strict=True))


def _rates(document_tokens: int, kv_tokens: int, job: "Job", prefill: "Prefill") -> dict[str, float]:
    own, plain = prefill.tokens / prefill.seconds, prefill.plain_tokens / prefill.plain_s
    computing_s = job.compute_s - job.storing_s
    return {
        "computing": kv_tokens / computing_s,
        "computed": kv_tokens / job.compute_s,
        "document": document_tokens / job.compute_s,
        "whole_job": kv_tokens / job.seconds,
        "whole_job_document": document_tokens / job.seconds,
        "prefill": own,
        "prefill_plain": plain,
        "computed_over_prefill": kv_tokens / job.compute_s / own,
        "computing_over_prefill": kv_tokens / computing_s / own,
        "whole_job_over_prefill": kv_tokens / job.seconds / own,
        "document_over_prefill": document_tokens / job.compute_s / plain,
    }
