"""Writes the pages of docs/ that repeat what stands in code. With `--check` it only names the stale ones."""

import sys
from pathlib import Path

from docs.generate_cli import cli
from docs.generate_metrics import metrics
from docs.generate_settings import settings
from docs.generate_structure import structure

ROOT = Path(__file__).parents[1]

PAGES = {
    "docs/cli.md": cli,
    "docs/metrics.md": metrics,
    "docs/settings.md": settings,
    "docs/structure.md": structure,
}


def stale() -> list[str]:
    """Generated pages that differ from what the code says now."""
    return [name for name, page in PAGES.items() if not _is_current(ROOT / name, page())]


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def main() -> int:
    """Write the pages, or with `--check` name the stale ones and exit with 1."""
    if "--check" in sys.argv:
        print("\n".join(f"{name} is stale: run `make docs`" for name in stale()))
        return 1 if stale() else 0
    for name, page in PAGES.items():
        (ROOT / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
