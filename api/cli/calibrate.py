"""`kvblend calibrate`: how closely a model blends at each ratio, and which ratio it is served at."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blend.settings.defaults import DEFAULT_MODEL
from blend.store.config import StoreConfig, store_path

EXIT_FAILED = 4


def add_parser(subparsers: Any) -> None:
    """The command's arguments."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure how closely a model blends, and choose its recompute ratio",
        description="Asks the engine built-in questions at a range of recompute ratios, compares each answer "
        "with full prefill's, and writes the result beside the store, where `kvblend serve` reads it.",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    parser.add_argument("--store", type=Path, default=None, help="the store's folder")
    parser.add_argument(
        "--tolerance", type=float, default=None, help="largest mean KL to full prefill, in nats"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print; 0 when the model is blended, 4 when it is not."""
    from blend.models.fingerprint import resolve_dtype
    from blend.models.resolve import resolve
    from blend.vllm.engine.calibrate import FORCING_ENGINE, TOLERANCE, calibrate
    from blend.vllm.engine.engine import Engine
    from blend.vllm.gate.gate import self_check
    from blend.vllm.gate.verdict_file import GateFile, judged

    dtype = resolve_dtype(resolve(args.model).path)  # as it will be served
    with (
        TemporaryDirectory(prefix="kvblend-") as folder,
        Engine(args.model, folder, self_check=False, dtype=dtype, **FORCING_ENGINE) as engine,
    ):
        verdict = self_check(engine)
        if verdict.passed:
            tolerance = TOLERANCE if args.tolerance is None else args.tolerance
            with _open_progress() as progress:
                verdict = judged(verdict, calibrate(engine, tolerance, progress))
        setup = engine.setup
    file = replace(setup.settings, store=StoreConfig(path=store_path(args.store))).verdict_file
    GateFile(file).write(verdict)
    found = asdict(verdict)
    print(json.dumps({"model": setup.model_name, **found}) if args.json else render(setup.model_name, found))
    return 0 if verdict.passed else EXIT_FAILED


@contextmanager
def _open_progress() -> Iterator[Callable[[int, int], None]]:
    """Questions measured, on standard error: a bar on a terminal, lines elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: print(f"{done}/{total} questions", file=sys.stderr, flush=True)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("questions", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def render(model: str, verdict: dict[str, Any]) -> str:
    """The verdict and its curve, for people.

    >>> print(render("m", {"passed": False, "reason": "no", "calibration": None}))
    m is served without blending: no
    """
    if not verdict["passed"]:
        lines = [f"{model} is served without blending: {verdict['reason']}"]
    else:
        lines = [f"{model} is blended: {verdict['reason']}"]
    found = verdict["calibration"]
    if found is not None:
        lines += ["", "recompute ratio  mean KL to full prefill"]
        lines += [f"{ratio:>15.2f}  {kl:.4f}" for ratio, kl in found["curve"]]
        chosen = found["recompute_ratio"]
        lines += [
            "",
            f"default ratio    {'none' if chosen is None else chosen} (tolerance {found['tolerance']})",
        ]
    return "\n".join(lines)
