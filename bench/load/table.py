"""The figures of load as tables, for people."""

from collections.abc import Sequence

from bench.load.figures import DecodingFigures, LoadFigures, Percentiles
from bench.report import table

_HEAD = (
    *("arm", "requests/s", "sent", "finished", "failed", "TTFT p50", "p90", "p99"),
    *("short TTFT p50", "ITL p50", "p99", "tokens/s", "blended"),
)
_LEGEND = """\
TTFT: ms from when a request was due to its first token, of requests with chunks; short: of those without.
ITL: ms between tokens, of all requests together; of failed requests, the tokens that came. blended: share of
the finished requests. Both arms: the same server and requests, each with a prefix cache of its own."""

_DECODING_HEAD = ("other request", "gaps", "ITL p50", "p99", "max", "p99 over alone", "its TTFT", "blended")
_DECODING_LEGEND = """\
ITL: ms between tokens of a request that decodes: all of them when it is alone, else those between the sending
of the other request and that one's first token. TTFT: ms, median."""


def render_load(found: Sequence[LoadFigures]) -> str:
    """A line per rate and arm."""
    return f"{table(_HEAD, list(map(_cells, found)))}\n\n{_LEGEND}"


def render_decoding(found: Sequence[DecodingFigures]) -> str:
    """A line per kind of other request."""
    rows = [
        (
            *(one.kind, one.itl_ms.num if one.itl_ms else 0, *_ms(one.itl_ms, "p50", "p99", "max")),
            None if one.p99_over_alone is None else f"{one.p99_over_alone:.2f}",
            *(None if one.ttft_ms is None else f"{one.ttft_ms:.0f}", one.blended),
        )
        for one in found
    ]
    return f"{table(_DECODING_HEAD, rows)}\n\n{_DECODING_LEGEND}"


def _cells(one: LoadFigures) -> tuple[object, ...]:
    return (
        *(one.arm, f"{one.rate:g}", one.sent, one.finished, one.failed),
        *_ms(one.ttft_ms, "p50", "p90", "p99"),
        *_ms(one.short_ttft_ms, "p50"),
        *_ms(one.itl_ms, "p50", "p99"),
        *(f"{one.tokens_per_s:.1f}", f"{one.blended_share:.0%}"),
    )


def _ms(found: Percentiles | None, *names: str) -> list[str | None]:
    return [None if found is None else f"{getattr(found, name):.0f}" for name in names]
