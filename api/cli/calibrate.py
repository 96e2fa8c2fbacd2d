"""`kvblend calibrate`: how closely a model blends at each ratio, and which ratio it is served at."""

import argparse
import json
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blend.settings.defaults import DEFAULT_MODEL
from blend.store.config import store_path

EXIT_FAILED = 4


def add_parser(subparsers: Any) -> None:
    """The command's arguments."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure how closely a model blends, and choose its recompute ratio",
        description="Runs the fidelity laboratory on built-in questions through the engine, and writes what "
        "it finds beside the store, where `kvblend serve` reads it.",
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    parser.add_argument("--store", type=Path, default=None, help="the store's folder")
    parser.add_argument(
        "--tolerance", type=float, default=None, help="largest mean KL to full prefill, in nats"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print; 0 when the model is blended, 4 when it is not."""
    from bench.fidelity.calibrate import TOLERANCE, calibrate
    from bench.fidelity.engine_backend import EngineBackend
    from bench.progress import open_progress
    from blend.models.fingerprint import resolve_dtype
    from blend.models.resolve import resolve
    from blend.vllm.engine.setup import prepare_environment
    from blend.vllm.gate.gate import self_check
    from blend.vllm.gate.verdict_file import GateFile, judged

    prepare_environment()  # before vllm is imported
    dtype = resolve_dtype(resolve(args.model).path)  # as it will be served
    with closing(EngineBackend(args.model, dtype=dtype)) as backend:
        verdict = self_check(backend.engine)
        if verdict.passed:
            with open_progress() as progress:
                tolerance = TOLERANCE if args.tolerance is None else args.tolerance
                verdict = judged(verdict, calibrate(backend, tolerance, progress))
        settings, model = backend.engine.setup.settings, backend.engine.model_name
    file = replace(settings, store=str(store_path(args.store))).verdict_file
    GateFile(file).write(verdict)
    found = asdict(verdict)
    print(json.dumps({"model": model, **found}) if args.json else render(model, found))
    return 0 if verdict.passed else EXIT_FAILED


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
