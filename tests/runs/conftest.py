"""Whole runs: the engine in processes of its own, a real upstream, a real database."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Programs, launched


@pytest.fixture(scope="session")
def launcher() -> Iterator[subprocess.Popen[bytes]]:
    """What forks the processes of these tests; none of them outlives it."""
    with launched() as process:
        yield process


@pytest.fixture
def programs(launcher: subprocess.Popen[bytes], tmp_path: Path) -> Iterator[Programs]:
    """Starts processes that run jobs; what a test leaves running is killed."""
    started = Programs(launcher, tmp_path)
    yield started
    started.end()
