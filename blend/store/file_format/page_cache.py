"""The system's page cache. Forgetting a file makes its next read a cold one."""

import os
from pathlib import Path


def forget_pages(path: Path) -> None:
    """Have the system read a file from the disk the next time; it must have been synced."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
