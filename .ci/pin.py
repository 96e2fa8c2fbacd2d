"""Writes `constraints-ENGINE.txt`: the versions that pip picks for pyproject.toml in an empty environment.

Only names and versions are written, never where a package came from. A local version is cut off, as in
`torch==2.13.0+cpu`: another build of the same version fits as well.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = "all,bench,dev"
OF_TORCH = ("nvidia-cu", "triton")  # each build of torch names its own exactly
HEAD = """\
# Written by `make constraints` on Linux with Python {version}; `make setup` and the Dockerfile install by it.
"""


def resolved(*what: str) -> dict[str, str]:
    """Names and versions that pip would install, were nothing there."""
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        subprocess.run([*pip, "--report", report.name, *what], cwd=ROOT, check=True)
        items = json.loads(Path(report.name).read_text(encoding="utf-8"))["install"]
    found = (item["metadata"] for item in items if not item["is_direct"])
    return {each["name"].lower().replace("_", "-"): each["version"].partition("+")[0] for each in found}


def main(engine: str, *models: str) -> None:
    """Write the file of an engine: `cpu` or `cuda`."""
    pins = resolved(f".[{engine},{EXTRAS}]") | resolved("--no-deps", *models)
    lines = [f"{name}=={pins[name]}\n" for name in sorted(pins) if not name.startswith(OF_TORCH)]
    head = HEAD.format(version=f"{sys.version_info.major}.{sys.version_info.minor}")
    (ROOT / f"constraints-{engine}.txt").write_text("".join([head, *lines]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
