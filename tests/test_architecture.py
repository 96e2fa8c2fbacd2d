"""What may import what, how large files and functions may be, and what the packaging must list.

One test is one rule; a test that fails names every file that breaks it.
"""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "bench", "blend", "demo", "precompute", "retriever")
FOLDERS = {*PACKAGES, "docs", "tests"}
MAY_IMPORT = {
    "api": {"blend", "precompute", "retriever"},
    "bench": {"api", "blend", "precompute", "retriever"},
    "blend": set(),
    "demo": {"api", "blend", "precompute", "retriever"},
    "precompute": {"blend", "retriever"},
    "retriever": set(),
}
ROOMS = (
    "errors",
    "report",
    "settings",
    "models",
    "maths",
    "chunks",
    "text",
    "plan",
    "select",
    "store",
    "hf",
    "vllm",
)
"""What `blend` consists of, bottom first: a room imports only rooms that stand before it."""
MAX_ENTRIES = 13  # of blend/: its root is a table of contents
MAX_CONNECTOR_MODULES = 92
"""Modules of ours that vLLM's processes import with the connector."""
MEASURING_COMMANDS = {"api/cli/main.py"}  # loads bench when it runs: a server never does
HTTP = {"aiohttp", "fastapi", "httpx", "openai", "requests", "starlette", "uvicorn"}
EMBEDDING_CLIENT = ROOT / "retriever" / "remote_embed.py"  # a client of an embedding service, no server
VAGUE = {"common", "helper", "helpers", "misc", "util", "utils"}
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[str]:
    """Modules that a file imports, at its top or inside functions, by full name."""
    return frozenset(_imports(ast.walk(tree(path))))


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"imports are absolute, got a relative one of {node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(module: str) -> str:
    return module.split(".")[0]


def test_packages_import_one_way() -> None:
    wrong = [
        f"{name(path)} imports {module}"
        for path in SOURCES
        for module in imports(path)
        if top(module) in FOLDERS - {package_of(path)} - MAY_IMPORT[package_of(path)]
        and not (top(module) == "bench" and name(path) in MEASURING_COMMANDS)
    ]
    assert not wrong, wrong


def test_only_the_command_line_names_bench_and_loads_it_late() -> None:
    naming, loading = set(), set()
    for path in SOURCES:
        if package_of(path) in ("bench", "demo"):
            continue
        texts = {str(node.value) for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
        if any(top(word) == "bench" for word in texts | imports(path)):
            naming.add(name(path))
        if any(top(module) == "bench" for module in _imports(tree(path).body)):
            loading.add(name(path))
    assert naming <= MEASURING_COMMANDS
    assert not loading, "bench is imported inside functions only"


def test_rooms_of_blend_import_only_downwards() -> None:
    rank = {room: number for number, room in enumerate(ROOMS)}
    entries = {path.stem for path in (ROOT / "blend").iterdir() if not path.name.startswith(("_", "."))}
    assert entries == set(ROOMS)
    arrows = {
        (path.relative_to(ROOT / "blend").parts[0].removesuffix(".py"), module.split(".")[1])
        for path in SOURCES
        if package_of(path) == "blend" and path.parent != ROOT / "blend"
        for module in imports(path)
        if top(module) == "blend" and "." in module
    }
    upwards = {(room, other) for room, other in arrows if other in rank and rank[other] > rank[room]}
    assert not upwards


def test_the_root_of_blend_is_its_table_of_contents() -> None:
    assert len([path for path in (ROOT / "blend").iterdir() if path.name != "__pycache__"]) <= MAX_ENTRIES


def test_vllm_is_imported_in_one_place() -> None:
    wrong = [
        f"{name(path)} imports {module}"
        for path in SOURCES
        if not path.is_relative_to(ROOT / "blend" / "vllm")
        for module in imports(path)
        if top(module) == "vllm"
        and not (package_of(path) == "api" and module.startswith("vllm.entrypoints."))
    ]
    assert not wrong, wrong


def test_only_the_api_knows_http() -> None:
    wrong = [
        f"{name(path)} imports {module}"
        for path in SOURCES
        if package_of(path) not in ("api", "bench", "demo") and path != EMBEDDING_CLIENT
        for module in imports(path)
        if top(module) in HTTP
    ]
    assert not wrong, wrong


def test_names_say_what_a_module_holds() -> None:
    wrong = [
        name(path)
        for path in (*SOURCES, *TESTS)
        if VAGUE & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    ]
    assert not wrong, wrong


def test_folders_of_tests_mirror_the_packages() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in TESTS}
    mirrors = [folder for folder in folders if folder.parts and folder.parts[0] in PACKAGES]
    wrong = [f"tests/{folder}" for folder in mirrors if not (ROOT / folder / "__init__.py").exists()]
    assert not wrong, wrong


def test_files_stay_small() -> None:
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    too_long = {file: lines for file, lines in lengths.items() if lines > MAX_FILE_LINES}
    assert not too_long, f"over {MAX_FILE_LINES} lines: {too_long}"


def test_functions_stay_small() -> None:
    too_long = {
        f"{name(path)}: {node.name}": lines
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not too_long, f"over {MAX_FUNCTION_LINES} lines: {too_long}"


def test_the_top_level_folders_are_the_stages_of_the_data() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    folders = {line.split("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert {folder for folder in folders if not folder.startswith(".")} == FOLDERS


def test_every_package_is_installed_and_says_what_it_is() -> None:
    included = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in included} == set(PACKAGES)
    packages = {path.parent / "__init__.py" for path in SOURCES}
    silent = [name(init) for init in packages if not init.exists() or not ast.get_docstring(tree(init))]
    assert not silent, f"no docstring of one line: {silent}"


def test_the_console_script_is_there() -> None:
    module, function = PROJECT["project"]["scripts"]["kvblend"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_plugin_of_vllm_is_there() -> None:
    # Read, not imported: the plug-in may import vllm, which takes seconds.
    module, function = PROJECT["project"]["entry-points"]["vllm.general_plugins"]["kvblend"].split(":")
    names = {node.name for node in tree(module_file(module)).body if isinstance(node, ast.FunctionDef)}
    assert function in names


def module_file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_help_comes_without_loading_torch_or_vllm() -> None:
    script = (
        "import sys\nfrom api.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'vllm', 'transformers'} & set(sys.modules)\n"
    )
    assert "precompute" in run(script)


@pytest.mark.slow
def test_the_connector_imports_a_part_of_the_product() -> None:
    script = (
        "import sys\nimport blend.vllm.connector\n"
        f"ours = {PACKAGES!r}\n"
        "print('modules', sum(name.split('.')[0] in ours for name in sys.modules))\n"
    )
    num_modules = int(run(script).split()[-1])
    assert num_modules <= MAX_CONNECTOR_MODULES


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
