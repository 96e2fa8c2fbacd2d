"""The figures of load as tables, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import median
from typing import Any

from api.cli.columns import aligned
from bench.load.beside import Beside
from bench.load.figures import LoadFigures, Percentiles, percentiles

_HEAD = (
    *("requests/s", "arm", "sent", "finished", "failed", "TTFT p50", "p90", "p99"),
    *("short TTFT p50", "ITL p50", "p99", "tokens/s", "blended"),
)
_LEGEND = """\
TTFT: ms from when a request was due to its first token, of requests with chunks; short: of those without.
ITL: ms between tokens, of all requests together. Failed requests count as far as they came. blended: share
of those that finished. Both arms: the same server and requests, each with a prefix cache of its own."""

_BESIDE_HEAD = ("beside", "gaps", "ITL p50", "p99", "max", "p99 over alone", "TTFT of the other", "blended")
_BESIDE_LEGEND = """\
ITL: ms between tokens of a request that decodes: all of them alone, else those between another request's
sending and its first token. TTFT: ms, median."""


def render_load(found: Sequence[LoadFigures]) -> str:
    """A line per rate and arm; "-" stands for what there was none of."""
    return f"{aligned([_HEAD, *map(_cells, found)], right=_HEAD)}\n\n{_LEGEND}"


@dataclass(frozen=True, slots=True)
class BesideFigures:
    """One request that decodes, beside one kind of other request.

    Attributes:
        kind: "alone", "blend" or "full".
        p99_over_alone: its p99 inter-token latency over that of `alone`; None where there were no tokens.
        ttft_ms: median of the other request's.
        blended: how many of the others were.
    """

    kind: str
    itl_ms: Percentiles | None
    p99_over_alone: float | None
    ttft_ms: float | None
    blended: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def beside_figures(found: Mapping[str, Sequence[Beside]]) -> list[BesideFigures]:
    """Figures of each kind; the first is what the others are held against."""
    itls = {
        kind: percentiles(list(chain.from_iterable(one.itls_ms for one in own)))
        for kind, own in found.items()
    }
    alone = next(iter(itls.values()))
    return [_beside(kind, own, itls[kind], alone) for kind, own in found.items()]


def render_beside(found: Sequence[BesideFigures]) -> str:
    """A line per kind of other request."""
    rows = [
        (
            *(one.kind, *_itl(one.itl_ms)),
            *("-" if value is None else f"{value:.2f}" for value in [one.p99_over_alone]),
            *(_ms(one.ttft_ms), str(one.blended)),
        )
        for one in found
    ]
    return f"{aligned([_BESIDE_HEAD, *rows], right=_BESIDE_HEAD[1:])}\n\n{_BESIDE_LEGEND}"


def _beside(
    kind: str, own: Sequence[Beside], itl: Percentiles | None, alone: Percentiles | None
) -> BesideFigures:
    ttfts = [one.ttft_ms for one in own if one.ttft_ms is not None]
    return BesideFigures(
        kind=kind,
        itl_ms=itl,
        p99_over_alone=itl.p99 / alone.p99 if itl and alone else None,
        ttft_ms=median(ttfts) if ttfts else None,
        blended=sum(one.was_blended for one in own),
    )


def _cells(one: LoadFigures) -> tuple[str, ...]:
    ttft, short, itl = one.ttft_ms, one.short_ttft_ms, one.itl_ms
    return (
        *(f"{one.rate:g}", one.arm, str(one.sent), str(one.finished), str(one.failed)),
        *(_ms(value) for value in ((ttft.p50, ttft.p90, ttft.p99) if ttft else (None,) * 3)),
        _ms(short.p50 if short else None),
        *(_ms(value) for value in ((itl.p50, itl.p99) if itl else (None,) * 2)),
        *(f"{one.tokens_per_s:.1f}", f"{one.blended_share:.0%}"),
    )


def _itl(itl: Percentiles | None) -> tuple[str, ...]:
    return (str(itl.num), _ms(itl.p50), _ms(itl.p99), _ms(itl.max)) if itl else ("0", "-", "-", "-")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
