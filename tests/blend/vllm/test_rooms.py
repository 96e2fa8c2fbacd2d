"""The rooms of blend/vllm import in one direction: the blend's own path never reaches up to the engine."""

import ast
from pathlib import Path

import blend.vllm

PACKAGE = Path(blend.vllm.__file__ or "").parent
ALLOWED = {
    "layers": set(),
    "job": {"layers"},
    "gate": set(),
    "scheduler": {"gate"},
    "worker": {"job", "layers"},
    "engine": {"gate", "worker"},
}
"""Rooms that the modules of a room may import; modules that stand in blend/vllm itself are free to all."""


def test_rooms_import_only_rooms_below_them() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for room, allowed in ALLOWED.items()
        for path in sorted((PACKAGE / room).glob("*.py"))
        for module in _imported(path)
        if (other := module.split(".")[2]) in ALLOWED and other not in allowed | {room}
    ]
    assert not wrong, wrong


def test_every_room_has_a_place_in_the_order() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)


def _imported(path: Path) -> list[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [module for module in modules if module.startswith("blend.vllm.")]
