"""Where servers of tests keep their files: in memory, where there is plenty of it."""

from __future__ import annotations

import shutil
from pathlib import Path

SHARED = Path("/dev/shm")  # a tmpfs on every Linux
PLENTY_BYTES = 8 * 2**30  # four servers with a gigabyte of WAL each, twice


def place() -> Path | None:
    """Return where files are in memory; `None`: where temporary files are.

    Each test has a database of its own, which is 300 files that are made and removed: 10 ms of the
    kernel's work in memory, and 40 to 130 on a disk.
    """
    if not SHARED.is_dir() or shutil.disk_usage(SHARED).free < PLENTY_BYTES:
        return None
    available = _available_bytes()
    return SHARED if available is None or available >= PLENTY_BYTES else None


def _available_bytes() -> int | None:
    """Return the memory that may be had (proc_meminfo(5))."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None
