"""Rates of precomputing and of plain prefill, each token counted for what it is."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from bench.report import table

if TYPE_CHECKING:
    from bench.precompute.precomputing import Job, Material, Prefill

_LEGEND = """\
{chunks} chunks of {chunk_tokens} tokens, each stored in two versions; medians of {repetitions} repetitions,
both arms alternating. Document tokens count once, computed tokens once for each version. computing: the time
less that of storing, measured by itself; computing and storing: the job's own clock; whole job: with reading,
embedding and publishing. The engine's own prefill: the same chunks behind the same text, in one batch, with
the text before them in the prefix cache."""


def make_rates(
    material: "Material", jobs: "Sequence[Job]", prefills: "Sequence[Prefill]"
) -> dict[str, float]:
    """Tokens a second, and ratios to the engine's own prefill, by their names in the JSON line.

    Medians over the repetitions; a ratio is of the two arms of one repetition. `computing` leaves storing
    out, `computed` includes it; `document` counts document tokens in place of those of both versions.
    """
    pairs = zip(jobs, prefills, strict=True)
    each = [_rates(material.document_tokens, material.kv_tokens, *pair) for pair in pairs]
    return {name: median(one[name] for one in each) for name in each[0]}


def render_rates(rates: Mapping[str, float], material: "Material", repetitions: int) -> str:
    """The rates of every part, against the engine's own prefill."""

    def row(name: str, document: str | None, rate: str, over: str) -> tuple[str, ...]:
        documents = "" if document is None else f"{rates[f'{document}_tokens_per_s']:.0f}"
        ratio = f"{rates[f'{over}_over_prefill']:.3f}" if over else "1"
        return name, documents, f"{rates[f'{rate}_tokens_per_s']:.0f}", ratio

    rows = [
        row("computing", None, "computing", "computing"),
        row("computing and storing", "document", "computed", "computed"),
        row("whole job", "whole_job_document", "whole_job", "whole_job"),
        row("the engine's own prefill", "prefill_plain", "prefill", ""),
    ]
    legend = _LEGEND.format(
        chunks=len(material.texts), chunk_tokens=material.chunk_tokens, repetitions=repetitions
    )
    over = rates["document_over_prefill"]
    once = f"Document tokens/s against the engine's, which prefills them once: {over:.3f}"
    text = table(("", "document tokens/s", "computed tokens/s", "over prefill"), rows)
    return f"{text}\n\n{once}\n{legend}"


def _rates(document_tokens: int, kv_tokens: int, job: "Job", prefill: "Prefill") -> dict[str, float]:
    """The rates of one repetition; KV tokens count once for each version."""
    own, plain = prefill.tokens / prefill.seconds, prefill.plain_tokens / prefill.plain_s
    computing_s = job.compute_s - job.storing_s
    return {
        "computing_tokens_per_s": kv_tokens / computing_s,
        "computed_tokens_per_s": kv_tokens / job.compute_s,
        "document_tokens_per_s": document_tokens / job.compute_s,
        "whole_job_tokens_per_s": kv_tokens / job.seconds,
        "whole_job_document_tokens_per_s": document_tokens / job.seconds,
        "prefill_tokens_per_s": own,
        "prefill_plain_tokens_per_s": plain,
        "computed_over_prefill": kv_tokens / job.compute_s / own,
        "computing_over_prefill": kv_tokens / computing_s / own,
        "whole_job_over_prefill": kv_tokens / job.seconds / own,
        "document_over_prefill": document_tokens / job.compute_s / plain,
    }
