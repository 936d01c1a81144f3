"""What a process costs: wall, CPU and memory, read from the kernel (proc(5), wait4(2)). Linux only.

PostgreSQL is measured as a whole, by its postmaster: what ended backends took is added to it when
it has waited for them, so live children and its own two sums are all there is.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_MS = 20  # between two looks at how much memory is used
MIB = 2**20


class Overdue(Exception):
    """A program did not end in time."""


@attrs.frozen
class Cost:
    """What one run of a program took."""

    code: int
    wall_seconds: float
    cpu_seconds: float  # of itself and of the children that it has waited for
    peak_bytes: int  # of itself: VmHWM
    database_seconds: float
    database_peak_bytes: int  # private memory of all backends at once, plus the shared part
    server_seconds: float
    others_seconds: float  # what everybody else on the machine took meanwhile


def tree_seconds(root: int) -> float:
    """Return the CPU seconds of a process, of those below it, and of those it has waited for."""
    return sum(_seconds(pid) for pid in _tree(root))


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            found += [int(child) for child in children.split()]
    return found


def _seconds(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return sum(map(int, fields[11:15])) / TICKS  # utime, stime, cutime, cstime
    return 0.0


def machine_seconds() -> float:
    """Return the CPU seconds of everything on the machine, what a hypervisor stole included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS


def _status(pid: int, *names: str) -> list[int]:
    """Read sizes of a process; zeros where it is gone."""
    sizes = dict.fromkeys(names, 0)
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in sizes:
                sizes[name] = int(value.split()[0]) * 1024
    return [sizes[name] for name in names]


def tree_bytes(root: int) -> int:
    """Return how much memory a process and those below it use: what is shared counts once."""
    sizes = [_status(pid, "RssAnon", "RssShmem") for pid in _tree(root)]
    return sum(anonymous for anonymous, _ in sizes) + max(shared for _, shared in sizes)


def run(
    command: Sequence[str],
    *,
    said: Path,
    database: int,
    server: int,
    timeout_seconds: float,
    beside: Callable[[int], None] | None = None,
) -> Cost:
    """Run a program to its end; what it says goes to a file, `beside` is given its pid.

    Raises: `Overdue`; neither then nor when we are interrupted is anything of it left.
    """
    before = tree_seconds(database), tree_seconds(server), machine_seconds(), time.process_time()
    peak = database_peak = 0
    started_at = time.monotonic()
    with said.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    pid, handle = process.pid, os.pidfd_open(process.pid)
    try:
        if beside is not None:
            beside(pid)
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        looks = 0
        while not ended.poll(SAMPLE_MS):
            peak = max(peak, *_status(pid, "VmHWM"))
            if looks % 10 == 0:
                database_peak = max(database_peak, tree_bytes(database))
            looks += 1
            if time.monotonic() - started_at > timeout_seconds:
                raise Overdue(f"{command[1]}: runs for {timeout_seconds:.0f} s; see {said}")
        wall = time.monotonic() - started_at
        _, status, usage = os.wait4(pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        os.close(handle)
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            process.wait()
    of_program = usage.ru_utime + usage.ru_stime
    of_database, of_server = tree_seconds(database) - before[0], tree_seconds(server) - before[1]
    of_us = time.process_time() - before[3]
    of_all = machine_seconds() - before[2]
    return Cost(
        process.returncode,
        wall,
        of_program,
        peak,
        of_database,
        database_peak,
        of_server,
        max(0.0, of_all - of_program - of_database - of_server - of_us),
    )
