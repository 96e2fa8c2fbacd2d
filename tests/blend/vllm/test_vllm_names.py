"""Names of vLLM that moved between versions are imported in one place, and the installed version has them."""

import ast
from pathlib import Path

import pytest

from blend.vllm import vllm_names

PACKAGE = Path(vllm_names.__file__).parent


@pytest.mark.parametrize("name", vllm_names.MODULES)
def test_the_installed_vllm_has_the_name_where_it_is_said_to_be(name: str) -> None:
    assert getattr(vllm_names, name) is not None


def test_a_name_that_never_moved_is_not_here() -> None:
    with pytest.raises(AttributeError, match="LLM"):
        vllm_names.LLM  # noqa: B018


def test_the_module_of_a_name_that_moved_is_imported_nowhere_else() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {node.module}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != Path(vllm_names.__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in vllm_names.MODULES.values()
    ]
    assert not wrong, wrong


def test_what_type_checkers_see_is_what_is_imported() -> None:
    tree = ast.parse(Path(vllm_names.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {node.names[0].name: node.module for node in block.body if isinstance(node, ast.ImportFrom)}
    assert seen == vllm_names.MODULES
