"""Whole runs: the engine in processes of its own, a real upstream, a real database."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from database import pooled
from processes import Programs, launched
from psycopg.conninfo import make_conninfo


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


@pytest.fixture
def fresh_dsn(server: str, template: str) -> Iterator[Callable[[], str]]:
    """Makes databases with the control tables, for a test that needs several."""
    names: list[str] = []
    with psycopg.connect(server, autocommit=True) as admin:

        def made() -> str:
            names.append(f"test_{uuid.uuid4().hex[:12]}")
            admin.execute(f'CREATE DATABASE "{names[-1]}" TEMPLATE "{template}"')
            return pooled(make_conninfo(server, dbname=names[-1]))

        yield made
        for name in names:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
