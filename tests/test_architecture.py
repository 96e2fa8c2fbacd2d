"""What may import what, how large things may be, and what the set-up must know of."""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "bench", "blend", "demo", "precompute", "retriever")
PRODUCT = ("api", "blend", "precompute", "retriever")
FOLDERS = {*PACKAGES, "docs", "tests"}
MAY_IMPORT = {
    "api": {"blend", "precompute", "retriever"},
    "bench": {"api", "blend", "precompute", "retriever"},
    "blend": set(),
    "demo": {"api", "blend", "precompute", "retriever"},
    "precompute": {"blend", "retriever"},
    "retriever": set(),
}
HTTP = {"aiohttp", "fastapi", "httpx", "openai", "requests", "starlette", "uvicorn"}
EMBEDDING_CLIENT = ROOT / "retriever" / "remote_embed.py"  # asks a service, and serves nothing
COMMAND_LINE = ROOT / "api" / "cli" / "main.py"
VAGUE = {"common", "helper", "helpers", "misc", "util", "utils"}
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports, at its top or inside functions, by full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {top(module) for module in imports(path)} & FOLDERS - {package}
    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", [path for path in SOURCES if name(path).split("/")[0] in PRODUCT], ids=name)
def test_only_the_command_line_knows_what_measures(path: Path) -> None:
    assert ("bench" in path.read_text(encoding="utf-8").lower()) == (path == COMMAND_LINE)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_vllm_is_imported_in_one_place(path: Path) -> None:
    from_vllm = {module for module in imports(path) if top(module) == "vllm"}
    if path.is_relative_to(ROOT / "blend" / "vllm"):
        return
    if path.is_relative_to(ROOT / "api"):
        from_vllm = {module for module in from_vllm if not module.startswith("vllm.entrypoints.")}
    assert not from_vllm


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_only_the_api_knows_http(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] in ("api", "bench", "demo") or path == EMBEDDING_CLIENT:
        return
    assert not HTTP & {top(module) for module in imports(path)}


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name)
def test_no_module_has_a_name_that_says_nothing(path: Path) -> None:
    assert not VAGUE & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, functions):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name}: {lines} lines"


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


def test_every_package_is_installed() -> None:
    included = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in included} == set(PACKAGES)
    for package in {".".join(path.relative_to(ROOT).parent.parts) for path in SOURCES}:
        docstring = ast.get_docstring(
            ast.parse((ROOT / package.replace(".", "/") / "__init__.py").read_text())
        )
        assert docstring, f"{package}/__init__.py says in a line what the package is"


def test_the_console_script_is_there() -> None:
    module, function = PROJECT["project"]["scripts"]["kvblend"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_plugin_of_vllm_is_there() -> None:
    # Read, not imported: the plug-in may import vllm, which takes seconds.
    module, function = PROJECT["project"]["entry-points"]["vllm.general_plugins"]["kvblend"].split(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_help_comes_without_loading_torch_or_vllm() -> None:
    script = (
        "import sys\nfrom api.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'vllm', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "precompute" in done.stdout
