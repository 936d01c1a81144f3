"""Nothing grows while syncd works; and what does is found by the same measure (P15, P36)."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest
import soak
import trio
from soak import MEMORY_NOISE_BYTES, Said, Sample, judged

from syncd.events import BatchCommitted, ProcessVitals, RunFinished

NOISY = Random(7)


def series(name: str, *, start: float, per_second: float, noise: float = 0.0) -> list[Sample]:
    """Twenty minutes of one measure."""
    return [
        Sample(at, {name: start + per_second * at + noise * NOISY.uniform(-1, 1)})
        for at in range(400, 1200)
    ]


def flat(samples: list[Sample], *, pages: int = 0, runs: int = 0) -> bool:
    (finding,) = judged(samples, pages=pages, runs=runs)
    return finding.flat


def test_what_only_wavers_is_flat() -> None:
    wavering = series("resident_bytes", start=80e6, per_second=0, noise=8e6)

    assert flat(wavering)
    assert flat(series("threads", start=12, per_second=0, noise=4))


@pytest.mark.parametrize(
    ("name", "per_second"),
    [
        ("resident_bytes", 400 * 100.0),  # 400 bytes a page, at a hundred pages a second
        ("threads", 0.01),
        ("descriptors", 0.01),
        ("tasks", 0.01),
        ("size frontier", 20_000.0),
        ("dead partition", 100.0),
    ],
)
def test_what_grows_slowly_is_found_under_its_noise(name: str, per_second: float) -> None:
    noise = MEMORY_NOISE_BYTES / 4 if name == "resident_bytes" else 2.0

    assert not flat(series(name, start=100.0, per_second=per_second, noise=noise), pages=80_000)


def test_history_may_grow_by_its_runs_and_nothing_else_may() -> None:
    per_second = 3 * 2000.0  # three runs a second, of two kilobytes

    assert flat(series("size run", start=0, per_second=2 * per_second), runs=3 * 800)
    assert not flat(series("size frontier", start=0, per_second=2 * per_second), runs=3 * 800)


def test_what_is_no_event_and_what_needs_a_human_is_trouble() -> None:
    said = Said()
    said.hear(b'{"event": "process.vitals", "level": "debug", "tasks": 15}')
    said.hear(b'{"event": "batch.committed", "level": "debug", "pages": 3}')
    said.hear(b'{"event": "run.finished", "level": "info"}')
    assert (said.tasks, said.pages, said.runs, said.troubles) == (15.0, 3, 1, [])

    said.hear(b"Traceback (most recent call last):")
    said.hear(b'{"event": "loop.stalled", "level": "error"}')

    assert len(said.troubles) == 2


def test_the_events_that_are_listened_for_are_those_of_the_catalogue() -> None:
    names = {kind.name for kind in (ProcessVitals, BatchCommitted, RunFinished)}

    assert names == {"process.vitals", "batch.committed", "run.finished"}


@pytest.mark.slow
async def test_half_a_minute_of_work_leaves_nothing_behind(server: str) -> None:
    """The short form of `make soak`, in which a leak of some kilobytes a page shows."""
    command = [sys.executable, str(Path(soak.__file__)), "--seconds", "30", "--cars", "1000"]
    with trio.fail_after(180):
        done = await trio.run_process(
            [*command, "--dsn", server], capture_stdout=True, capture_stderr=True, check=False
        )

    assert done.returncode == 0, (done.stdout + done.stderr).decode()
