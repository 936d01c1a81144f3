"""A hook that blocks the loop is named, and none of them keeps a process from its end (P33, P35).

The hooks are those of `saboteur`; the processes end by their own watchdog, or not at all.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import database_facts as facts
import pytest
import trio
from processes import Program, Programs
from saboteur import configuration
from traps import Step

DRAIN_SECONDS = 1.0
# A machine that runs other tests stands still for seconds; a process that hangs does so for ever.
SLACK_SECONDS = 15.0


def hung(folder: Path, dsn: str, does: str, *, hook: str = "fetch") -> Path:
    return configuration(
        folder,
        dsn,
        daemon=f'drain_timeout = "{DRAIN_SECONDS:g}s"',
        connector=f'hook = "{hook}"\ndoes = "{does}"',
    )


async def drained(program: Program) -> tuple[int, float]:
    """Ask a process to stop; answer with its code, and how long it took."""
    began = time.monotonic()
    program.send(signal.SIGTERM)
    code = await program.ended()
    return code, time.monotonic() - began


async def test_a_hook_that_blocks_the_loop_is_named_while_it_does(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    program = programs.start(hung(tmp_path, dsn, "sleeps 4"))

    (stalled,) = await program.event("loop.stalled")
    assert program.code is None
    assert await program.ended() == 0, program.said()

    assert 1.0 <= stalled["seconds"] <= SLACK_SECONDS
    assert "saboteur.py" in stalled["where"].split(" < ")[0]
    assert stalled["where"].split(" < ")[0].endswith("saboteur.act")
    assert "_fetch_one" in stalled["task"]
    (resumed,) = program.events("loop.resumed")
    assert resumed["task"] == stalled["task"]
    assert 4.0 <= resumed["seconds"] <= 4.0 + SLACK_SECONDS


async def test_a_loop_that_turns_is_not_called_stalled(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    file = configuration(tmp_path, dsn, connector="page_seconds = 0.5")
    program = programs.start(file)

    assert await program.ended() == 0, program.said()
    assert program.events("loop.stalled") == []


async def test_a_process_that_was_stopped_by_its_system_was_not_stalled(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    file = configuration(tmp_path, dsn)
    program = programs.start(file, at=Step("claimed"), sends=signal.SIGSTOP)
    await program.halted()
    await trio.sleep(3.0)

    program.send(signal.SIGCONT)

    assert await program.ended() == 0, program.said()
    assert program.events("loop.stalled") == []


@pytest.mark.parametrize("does", ["swallows", "spins"])
async def test_a_hook_that_cannot_be_cancelled_ends_with_its_process(
    does: str, dsn: str, programs: Programs, tmp_path: Path
) -> None:
    program = programs.start(hung(tmp_path, dsn, does))
    if does == "spins":
        await program.event("loop.stalled")
    else:
        await program.event("page.fetched", times=5)

    code, seconds = await drained(program)

    assert code == 70, program.said()
    assert DRAIN_SECONDS <= seconds <= DRAIN_SECONDS + SLACK_SECONDS
    (cut,) = program.events("process.cut")
    assert (cut["reason"], cut["exit_code"]) == ("the drain did not end", 70)
    culprit = cut["stacks"].splitlines()[0]
    assert "saboteur.py" in culprit
    assert "_fetch_one" in culprit


async def test_after_a_process_was_cut_another_one_goes_on(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    file = hung(tmp_path, dsn, "swallows")
    file.write_text(file.read_text().replace('lease = "1h"', 'lease = "2s"'))
    cut = programs.start(file)
    await cut.event("page.fetched", times=5)
    code, _ = await drained(cut)
    assert code == 70, cut.said()

    following = programs.start(configuration(tmp_path, dsn))

    assert await following.ended() == 0, following.said()
    assert [run.status for run in facts.runs(dsn)].count("lost") == 1


async def test_a_hook_that_waits_for_ever_is_cancelled_by_the_drain(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    program = programs.start(hung(tmp_path, dsn, "hangs"))
    await program.event("page.fetched", times=5)

    code, seconds = await drained(program)

    assert code == 75, program.said()
    assert seconds <= DRAIN_SECONDS + SLACK_SECONDS
    assert program.events("process.cut") == []


async def test_a_process_that_holds_too_much_memory_stops_in_good_order(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    file = configuration(
        tmp_path,
        dsn,
        daemon='memory_max = "256MiB"',
        connector='hook = "transform"\ndoes = "hoards"\npages = 500\npage_seconds = 0.05',
    )
    program = programs.start(file)

    assert await program.ended() == 75, program.said()

    (exceeded,) = program.events("memory.exceeded")
    assert exceeded["resident_bytes"] > exceeded["memory_max_bytes"] == 256 << 20
    assert program.events("drain.started")[0]["reason"] == "memory"
    assert {result["verdict"] for result in program.results()} <= {"drained", "complete"}
    assert facts.passes(dsn).count("open") >= 1
