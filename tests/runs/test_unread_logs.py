"""A program whose log nobody reads does its work and stops when it is told to (P52)."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import database_facts as facts
import psycopg
import pytest
import trio
from processes import DEADLINE_SECONDS, seen
from upstream import Shape, Upstream, serving, true_rows

SHAPE = Shape(cars=600, per_page=20, requests_per_second=100.0)
SLOW = Shape(cars=600, per_page=20, requests_per_second=10.0)
PIPE_BYTES = 4096  # the least that the system gives: some ten lines


@contextmanager
def unread_pipe() -> Iterator[int]:
    """A pipe with a reading end that is open, and that nobody reads from."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


def configured(upstream: Upstream, folder: Path, dsn: str, *, form: str) -> Path:
    file = upstream.configuration(folder, dsn, connector="cars", lease="1h")
    log = f'[log]\ndestination = "stdout"\nlevel = "debug"\nformat = "{form}"\n'
    file.write_text(f"{file.read_text()}\n{log}")
    return file


async def started(file: Path, stdout: int, folder: Path) -> trio.Process:
    with (folder / "err").open("wb") as err:
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "syncd", "-c", str(file), "run", "cars"],
            stdout=stdout,
            stderr=err,
        )


@pytest.mark.parametrize("format_", ["json", "text"])
async def test_a_run_ends_well_though_nobody_reads_its_log(
    format_: str, dsn: str, tmp_path: Path
) -> None:
    async with serving(SHAPE) as upstream:
        file = configured(upstream, tmp_path, dsn, form=format_)
        with unread_pipe() as pipe:
            process = await started(file, pipe, tmp_path)
            with trio.fail_after(DEADLINE_SECONDS):
                code = await process.wait()

        said = (tmp_path / "err").read_text()
        assert code == 0, said
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)
        assert "Fatal Python error" not in said  # nor did its end trip over the hung thread


async def test_a_drain_does_not_wait_for_a_log_that_nobody_reads(dsn: str, tmp_path: Path) -> None:
    async with serving(SLOW) as upstream:
        file = configured(upstream, tmp_path, dsn, form="json")
        with unread_pipe() as pipe:
            process = await started(file, pipe, tmp_path)
            await seen("some pages", lambda: len(upstream.asked()) > 15)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            with trio.fail_after(DEADLINE_SECONDS):
                code = await process.wait()

    assert code == 75, (tmp_path / "err").read_text()
    assert time.monotonic() - began < 20  # a drain of nearly nothing, and a second for the log
    with psycopg.connect(dsn) as connection:
        held = connection.execute("SELECT count(*) FROM syncd.partition WHERE token IS NOT NULL")
        assert held.fetchone() == (0,)
