"""Starts `crash_program` often: the engine is imported once, and every process is forked from here.

Importing it takes a second, forking milliseconds. Each line of standard input is a folder with an
order; beside it appear `pid`, `events` and `output` (the process's standard error and output) and,
when it has ended, `exit`: its code, or a signal's number below zero. At the end of standard input
whatever still runs is killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

import crash_program


def main() -> None:
    """Fork and reap until standard input ends."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, Path] = {}
    unread = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            reap(running)
        if 0 in readable:
            received = os.read(0, 4096)
            if not received:
                break
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                start(Path(line.decode()), running)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def start(folder: Path, running: dict[int, Path]) -> None:
    """Fork a process; in it, this does not return."""
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        for number, name in ((1, "output"), (2, "events")):
            os.dup2(os.open(folder / name, flags, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.exit(crash_program.main(folder))
    running[pid] = folder
    leave(folder / "pid", pid)


def reap(running: dict[int, Path]) -> None:
    """Say of every process that has ended how it ended."""
    for pid, folder in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            del running[pid]
            leave(folder / "exit", os.waitstatus_to_exitcode(status))


def leave(file: Path, number: int) -> None:
    """Write a number so that whoever looks finds the whole of it or nothing."""
    part = file.with_suffix(".part")
    part.write_text(str(number))
    part.rename(file)


if __name__ == "__main__":
    main()
