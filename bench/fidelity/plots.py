"""The laboratory's pictures."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from bench.fidelity.question import LabPrompt
from bench.fidelity.scores import Scores
from bench.fidelity.summary import Summary
from bench.plot import figure_of, finish
from blend.settings.defaults import DEFAULTS

_Measured = TypeVar("_Measured", Summary, Scores)

_LEAST_KL = 1e-7
"""What a logarithmic axis shows for zero: below float32's noise."""

_ROW_PIXELS = 40
_DASHES = ("-", "--", ":", "-.")
_MARKERS = "osD^vP*X"
_COLOURS = 10  # of matplotlib's default cycle, "C0" .. "C9"


def plot_kl(summaries: Sequence[Summary], path: Path) -> None:
    """KL against recompute ratio: a line per method with its interval as a band, floors as level lines.

    Args:
        path: a PNG to write.
    """
    figure, (axes,) = figure_of(1, width=8.5)
    for number, (name, own) in enumerate(_by_name(summaries).items()):
        own = sorted(own, key=lambda one: one.method.ratio)
        kl = [max(one.kl_mean.mean, _LEAST_KL) for one in own]
        if own[-1].method.ratio == 0:
            axes.axhline(kl[0], color=_colour(number), linestyle=":", label=f"{name} (nothing recomputed)")
            continue
        ratios = [one.method.ratio for one in own]
        low = [max(one.kl_mean.ci.low, _LEAST_KL) for one in own]
        high = [max(one.kl_mean.ci.high, _LEAST_KL) for one in own]
        axes.fill_between(ratios, low, high, color=_colour(number), alpha=0.12, linewidth=0)
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(ratios, kl, color=_colour(number), linestyle=_dash(number), marker=marker, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("recompute ratio")
    axes.set_ylabel("mean KL from full prefill, nats (95 % interval)")
    finish(figure, axes, path)


def plot_layer_errors(
    summaries: Sequence[Summary], path: Path, ratio: float = DEFAULTS.recompute_ratio
) -> None:
    """Relative error of keys and of values, layer by layer: a line per method.

    Args:
        path: a PNG to write.
        ratio: of a method that was measured at several, the nearest to this one is drawn.
    """
    figure, panels = figure_of(2, width=13)
    nearest = _nearest(summaries, ratio)
    for axes, what in zip(panels, ("key", "value"), strict=True):
        for number, (label, one) in enumerate(nearest.items()):
            errors = one.key_error if what == "key" else one.value_error
            if errors:
                axes.plot(errors, color=_colour(number), linestyle=_dash(number), label=label)
        axes.set_xlabel("layer")
        axes.set_ylabel(f"relative error of {what}s")
    finish(figure, panels[-1], path)


def plot_picks(
    prompt: LabPrompt, scores: Sequence[Scores], path: Path, ratio: float = DEFAULTS.recompute_ratio
) -> None:
    """Which context tokens each method recomputes on one prompt: a row per method, a column per token.

    Args:
        prompt: that of the scores.
        scores: of one question; methods that pick nothing are left out.
        path: a PNG to write.
        ratio: of a method that was measured at several, the nearest to this one is drawn.
    """
    import numpy as np

    rows = _nearest([one for one in scores if one.selected], ratio)
    picked = np.zeros((max(len(rows), 1), prompt.context_tokens))
    for row, one in zip(picked, rows.values(), strict=False):
        row[list(one.selected)] = 1.0
    figure, (axes,) = figure_of(1, width=14, height=1.2 + 0.28 * len(picked))
    # Where there are more tokens than pixels, a column is as dark as its share of picks. Each row is drawn as
    # many, so that such smoothing stays within it.
    place = (-0.5, prompt.context_tokens - 0.5, len(picked) - 0.5, -0.5)
    many = picked.repeat(_ROW_PIXELS, axis=0)
    axes.imshow(many, aspect="auto", cmap="Blues", interpolation="antialiased", vmin=0, vmax=1, extent=place)
    for border in range(1, len(picked)):
        axes.axhline(border - 0.5, color="white", linewidth=2)
    for start, chunk in zip(prompt.starts, prompt.chunks, strict=True):
        for edge in (start, start + len(chunk)):
            axes.axvline(edge - 0.5, color="tab:red", linewidth=0.8)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xlabel("context token; chunks begin and end at the lines")
    axes.set_title(f"question {prompt.key}", fontsize=9)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def _by_name(measured: Sequence[_Measured]) -> dict[str, list[_Measured]]:
    """The points of each line; a name that stands for several kinds of chunks gets a line for each."""
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for one in measured:
        kinds[one.method.name].add(one.method.chunks)
    lines: defaultdict[str, list[_Measured]] = defaultdict(list)
    for one in measured:
        name, chunks = one.method.name, one.method.chunks
        lines[f"{name}, chunks {chunks}" if len(kinds[name]) > 1 else name].append(one)
    return lines


def _nearest(measured: Sequence[_Measured], ratio: float) -> dict[str, _Measured]:
    """One point of each line, under a label that says its ratio."""
    chosen = {
        name: min(own, key=lambda one: abs(one.method.ratio - ratio))
        for name, own in _by_name(measured).items()
    }
    return {f"{name} at {one.method.ratio:g}": one for name, one in chosen.items()}


def _colour(number: int) -> str:
    return f"C{number % _COLOURS}"


def _dash(number: int) -> str:
    return _DASHES[number // _COLOURS % len(_DASHES)]
