"""What is shown while something runs: a live table on a terminal, plain lines elsewhere.

One thing decides how (`presentation`), one thing writes (`Screen`). Where events go as JSON, they
go there alone: whoever reads them by machine gets no line of ours in between.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

import attrs

from syncd.cli import wording
from syncd.cli.board import Board, by_job, folded, progress_of
from syncd.config import Config, Log
from syncd.events import (
    EffectDelivered,
    Event,
    LeaseWaiting,
    Level,
    RecordsQuarantined,
    RunProgress,
)
from syncd.model import Secret
from syncd.observe import Observer, stream_of
from syncd.sink import Sink

if TYPE_CHECKING:
    from rich.console import Console

    from syncd.cli.terminal import Terminal

PAUSE_SECONDS = 5.0  # between two lines that say the same with other numbers

_RANK: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


@attrs.frozen
class Presentation:
    """How events are shown."""

    display: bool  # the live table, on stderr
    json: bool  # JSON lines, on the log's destination
    lines: Level | None  # text lines of at least this level; `None`: none


def presentation(
    log: Log, *, stderr_is_terminal: bool, destination_is_terminal: bool
) -> Presentation:
    """Decide how events are shown.

    On a terminal: the table, and above it only what needs attention, unless text was asked for by
    name. Else by the log's format, which `auto` makes JSON.
    """
    if log.format == "json":
        beside = not destination_is_terminal  # JSON lines would run through the table
        return Presentation(stderr_is_terminal and beside, json=True, lines=None)
    if log.format == "auto" and not destination_is_terminal:
        return Presentation(stderr_is_terminal, json=True, lines=None)
    if not stderr_is_terminal:
        return Presentation(display=False, json=False, lines=log.level)
    if log.format == "text":
        return Presentation(display=True, json=False, lines=log.level)
    return Presentation(display=True, json=False, lines=_higher(log.level, "warning"))


def _higher(one: Level, other: Level) -> Level:
    return max(one, other, key=lambda level: _RANK[level])


class Screen:
    """Shows events as they come, and what is said beside them.

    `redact` removes secrets from every line. `now` answers with seconds, for the pauses between
    progress lines. Lines go through the sink, so that none of them keeps the loop waiting; at a
    terminal sits whoever can stop it anyway. `by_job`: one line for each job, not each partition.
    """

    def __init__(
        self,
        how: Presentation,
        *,
        redact: Callable[[str], str] = str,
        stream: TextIO | Sink | None = None,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
        by_job: bool = False,
    ) -> None:
        self._by_job = by_job
        self._how = how
        self.redact = redact
        self._sink = stream if isinstance(stream, Sink) else Sink(stream or sys.stderr)
        self._terminal = _terminal(console) if how.display else None
        self._now = now
        self._board = Board()
        self._told_at: dict[object, float] = {}
        self._set_aside: dict[object, int] = {}  # records not told of yet
        self._holders: dict[str, str] = {}  # by partition

    def listen(self, event: Event) -> None:
        """Take note of an event, and say it where lines are wanted."""
        self._board = folded(self._board, event)
        worth_saying = self._worth_saying(event)
        if worth_saying is not None:
            self._tell(wording.told(worth_saying), event.level)
        elif isinstance(event, EffectDelivered) and self._tells_of_effects(event):
            self._tell(f"effects of kind {self._board.effects[event.kind].said}", "info")

    def say(self, text: str) -> None:
        """Tell the operator something, unless JSON is all that is wanted."""
        if not self._how.json or self._how.display:
            self._write(text)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show the live table while the block runs, where there is to be one."""
        try:
            with self._terminal.showing(self._shown) if self._terminal else nullcontext():
                yield
        finally:
            self._sink.flush()  # what is printed next comes after it

    def _shown(self) -> Board:
        return by_job(self._board) if self._by_job else self._board

    def clear(self) -> None:
        """Forget what was shown: something else begins."""
        self._board = Board()

    def _worth_saying(self, event: Event) -> Event | None:
        """Return the event that a line is to tell; what comes often is told now and then."""
        if self._how.lines is None or _RANK[event.level] < _RANK[self._how.lines]:
            return None
        match event:
            case RunProgress(partition=where, job=job):
                if self._how.display or not self._after_a_pause(job if self._by_job else where):
                    return None
                return progress_of(self._shown(), event) if self._by_job else event
            case RecordsQuarantined(partition=where, stream=stream, reason=reason):
                kind = (where, stream, reason)
                count = self._set_aside.get(kind, 0) + event.count
                told = self._after_a_pause(kind)
                self._set_aside[kind] = 0 if told else count
                return attrs.evolve(event, count=count) if told else None
            case LeaseWaiting(partition=where, holder=holder):
                told = self._holders.get(where) != holder
                self._holders[where] = holder
                return event if told else None
            case _:
                return event

    def _tells_of_effects(self, event: EffectDelivered) -> bool:
        """Say whether a line is to tell how far the effects of a kind are: the table does, too."""
        wanted = self._how.lines == "info" and not self._how.display
        return wanted and self._after_a_pause(event.kind)

    def _tell(self, what: str, level: Level) -> None:
        moment = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
        self._write(f"{moment} {level:<7} {what}", level)

    def _after_a_pause(self, what: object) -> bool:
        now = self._now()
        if now - self._told_at.get(what, -PAUSE_SECONDS) < PAUSE_SECONDS:
            return False
        self._told_at[what] = now
        return True

    def _write(self, text: str, level: Level = "info") -> None:
        line = self.redact(text)
        if self._terminal:
            self._terminal.write(line, level)
        else:
            self._sink.put(lambda: line, level=level)


def _terminal(console: Console | None) -> Terminal:
    # Here, since only who sits at a terminal needs rich.
    from syncd.cli.terminal import Terminal  # noqa: PLC0415

    return Terminal(console)


@attrs.frozen
class Attendance:
    """Who is told about a run: the log, and the screen."""

    observer: Observer
    screen: Screen


def attend(
    config: Config, secrets: Sequence[Secret], *, only_json: bool = False, by_job: bool = False
) -> Attendance:
    """Open what a command shows and logs while it runs, as the configuration wants it.

    `only_json`: stdout is to carry nothing but JSON. `by_job`: one line of progress for each job.
    """
    log = config.log
    if only_json and log.destination == "stdout":
        log = attrs.evolve(log, format="json")
    stream = stream_of(log.destination)
    how = presentation(
        log,
        stderr_is_terminal=sys.stderr.isatty(),
        destination_is_terminal=stream.isatty(),
    )
    sink = Sink(stream)
    observer = Observer(stream=sink if how.json else None, level=log.level, secrets=secrets)
    screen = Screen(how, redact=observer.redact, stream=sink, by_job=by_job)
    observer.listen(screen.listen)
    return Attendance(observer, screen)
