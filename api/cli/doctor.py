"""`kvblend doctor`: the environment, the model, and whether blended answers agree with full prefill."""

import argparse
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blend.settings.defaults import DEFAULT_MODEL
from blend.store.config import store_path

EXIT_FAILED = 4


@dataclass(frozen=True, slots=True)
class Environment:
    """Versions and device of the engine."""

    kvblend: str
    python: str
    torch: str
    vllm: str
    vllm_supported: str
    device: str
    thread_binding: str


@dataclass(frozen=True, slots=True)
class Model:
    """The model as it is served.

    Attributes:
        not_blendable: why the model is served without blending, or None.
    """

    name: str
    path: str
    dtype: str
    fingerprint: str
    not_blendable: str | None


def add_parser(subparsers: Any) -> None:
    """The command's arguments."""
    parser = subparsers.add_parser("doctor", help="check that blended answers agree with full prefill")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name, local folder, GGUF file or hub id")
    parser.add_argument("--store", type=Path, default=None, help="the store's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the self-check and print the verdict; 0 when it passed, 4 when it failed."""
    from blend.vllm.engine.engine import Engine
    from blend.vllm.gate.gate import ensure_verdict

    store = store_path(args.store)
    with Engine(args.model, store, self_check=False) as engine:
        setup = engine.setup
        model = Model(
            name=setup.model_name,
            path=str(setup.arguments["model"]),
            dtype=str(setup.arguments["dtype"]),
            fingerprint=setup.settings.fingerprint,
            not_blendable=setup.not_blendable,
        )
        verdict = ensure_verdict(engine, again=True)
    found = {"environment": asdict(environment()), "model": asdict(model), "verdict": asdict(verdict)}
    print(json.dumps(found) if args.json else render(found))
    return 0 if verdict.passed else EXIT_FAILED


def environment() -> Environment:
    """Installed versions and the device; called after the engine's environment is prepared."""
    import torch

    from api.version import kvblend_version
    from blend.vllm.version import installed_vllm, supported_vllm

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {os.cpu_count()} cores"
    return Environment(
        kvblend=kvblend_version(),
        python=platform.python_version(),
        torch=torch.__version__,
        vllm=installed_vllm(),
        vllm_supported=" or ".join(map(str, supported_vllm())),
        device=device,
        thread_binding=os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "vLLM's own choice"),
    )


def render(sections: dict[str, dict[str, Any]]) -> str:
    """Sections of names and values, for people.

    >>> print(render({"model": {"name": "m", "dtype": "float32"}}))
    model
      name   m
      dtype  float32
    """
    lines = []
    for title, values in sections.items():
        width = max(map(len, values))
        lines.append(title)
        lines += [f"  {name:<{width}}  {value}" for name, value in values.items()]
    return "\n".join(lines)
