"""Lines on their way out cost nobody else anything, whatever becomes of them (P52)."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, TextIO

import pytest
import trio

from syncd.events import CursorFailed, DbUnavailable, Event, PageFetched, PartitionParked
from syncd.observe import TEXT_MAX, Observer
from syncd.sink import ERRORS_MAX, Sink

DEADLINE_SECONDS = 30.0


class Pipe:
    """A pipe that is read when a test says so."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: TextIO = os.fdopen(writing, "w", encoding="utf-8")
        self._read = b""
        self._sinks: list[Sink] = []

    def sink(self, *, lines_max: int = 10_000) -> Sink:
        self._sinks.append(Sink(self.stream, lines_max=lines_max))
        return self._sinks[-1]

    def lines(self, *, until: str) -> list[dict[str, Any]]:
        """Read until a line holds these words."""
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while until.encode() not in self._read or not self._read.endswith(b"\n"):
            assert time.monotonic() < give_up_at, self._read[-2000:]
            readable, _, _ = select.select([self.reading], [], [], DEADLINE_SECONDS)
            assert readable, self._read[-2000:]
            self._read += os.read(self.reading, 65536)
        return [json.loads(line) for line in self._read.splitlines()]

    def close_reading(self) -> None:
        if self.reading >= 0:
            os.close(self.reading)
        self.reading = -1

    def close(self) -> None:
        self.close_reading()
        for sink in self._sinks:
            assert sink.flush()  # its number is about to be another file's
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with closing(Pipe()) as made:
        yield made


def page(number: int) -> Event:
    return PageFetched("cars.cars", f"page {number}", number, 0, False, 0.1)


async def test_an_unread_pipe_costs_lines_and_never_the_loop(pipe: Pipe) -> None:
    sink = pipe.sink(lines_max=1000)
    observer = Observer(stream=sink, level="debug")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        for number in range(5000):
            observer.emit(page(number))
            if number % 100 == 0:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()

    assert ticks >= 40
    assert sink.dropped >= 3000  # a pipe holds 64 KiB, the queue a thousand lines


def test_what_was_dropped_is_counted_where_it_is_missing(pipe: Pipe) -> None:
    sink = pipe.sink(lines_max=1000)
    observer = Observer(stream=sink, level="debug")
    for number in range(5000):
        observer.emit(page(number))

    pipe.lines(until="log.dropped")
    observer.emit(DbUnavailable("the last word"))
    lines = pipe.lines(until="the last word")

    told, next_page = 0, 0
    for line in lines:
        match line:
            case {"event": "log.dropped", "count": int(count)}:
                told += count
                next_page += count
            case {"event": "page.fetched", "records": number}:
                assert number == next_page
                next_page += 1
    assert next_page == 5000
    assert told == sink.dropped > 0


def test_a_full_queue_still_takes_errors(pipe: Pipe) -> None:
    sink = pipe.sink(lines_max=1000)
    observer = Observer(stream=sink, level="debug")
    for number in range(5000):
        observer.emit(page(number))

    observer.emit(PartitionParked("cars.cars", "a human must act"))

    assert pipe.lines(until="a human must act")[-1]["level"] == "error"


def test_even_errors_do_not_fill_the_memory(pipe: Pipe) -> None:
    sink = pipe.sink(lines_max=10)
    observer = Observer(stream=sink)
    for _ in range(5000):
        observer.emit(PartitionParked("cars.cars", "a human must act"))

    assert sink.dropped >= 5000 - 10 - ERRORS_MAX - 65536 // 100


def test_whoever_waits_for_a_sink_that_hangs_waits_for_a_second_or_so(pipe: Pipe) -> None:
    observer = Observer(stream=pipe.sink(), level="debug")
    for number in range(5000):
        observer.emit(page(number))
    began = time.monotonic()

    assert not observer.flush()

    assert 0.9 < time.monotonic() - began < 10


def test_a_sink_that_is_slow_and_reads_gets_everything(pipe: Pipe) -> None:
    observer = Observer(stream=pipe.sink(), level="debug")
    for number in range(2000):
        observer.emit(page(number))
    reader = threading.Thread(target=lambda: pipe.lines(until='"page 1999"'))
    reader.start()

    assert observer.flush()

    reader.join(DEADLINE_SECONDS)
    assert len(pipe.lines(until="page 1999")) == 2000


def test_a_program_that_ends_at_once_leaves_nothing_unsaid() -> None:
    program = (
        "import sys; from syncd.events import DbUnavailable; from syncd.observe import Observer;"
        "observer = Observer(stream=sys.stdout);"
        "[observer.emit(DbUnavailable(str(n))) for n in range(2000)]"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=60, check=True
    )

    assert [json.loads(line)["error"] for line in done.stdout.splitlines()] == [
        str(number) for number in range(2000)
    ]


def test_a_reader_that_has_gone_is_nobodys_trouble(pipe: Pipe) -> None:
    sink = pipe.sink()
    observer = Observer(stream=sink)
    pipe.close_reading()

    for _ in range(100):
        observer.emit(DbUnavailable("no route"))

    assert observer.flush()
    assert sink.dropped == 100


def test_a_stream_that_was_closed_is_nobodys_trouble() -> None:
    stream = io.StringIO()
    sink = Sink(stream)
    observer = Observer(stream=sink)
    stream.close()

    observer.emit(DbUnavailable("no route"))

    assert observer.flush()
    assert sink.dropped == 1


def test_a_full_disk_is_told_of_once_there_is_room() -> None:
    stream, room = io.StringIO(), threading.Event()

    class Disk(io.StringIO):
        def write(self, text: str) -> int:
            if not room.is_set():
                raise OSError(28, "No space left on device")
            return stream.write(text)

    sink = Sink(Disk())
    observer = Observer(stream=sink)
    observer.emit(DbUnavailable("lost"))
    assert observer.flush()
    room.set()
    observer.emit(DbUnavailable("kept"))
    assert observer.flush()

    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert events == ["log.dropped", "db.unavailable"]


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    observer = Observer(stream=pipe.sink(), level="debug")
    for number in range(2000):
        observer.emit(page(number))

    assert len(pipe.lines(until="page 1999")) == 2000


def test_a_line_that_cannot_be_made_costs_itself_alone() -> None:
    class Unspeakable:
        def __str__(self) -> str:
            raise RecursionError

    stream = io.StringIO()
    sink = Sink(stream)
    observer = Observer(stream=sink)

    observer.emit(DbUnavailable(Unspeakable()))  # type: ignore[arg-type]
    observer.emit(DbUnavailable("no route, \ud800"))

    assert observer.flush()
    assert sink.dropped == 1
    assert "no route" in stream.getvalue()


def test_ten_megabytes_of_text_become_a_line_of_a_few_kilobytes() -> None:
    stream = io.StringIO()
    observer = Observer(stream=stream)

    observer.emit(CursorFailed("p", "page 1", 1, 2.0, "x" * 10_000_000))

    assert observer.flush()
    assert len(stream.getvalue()) < TEXT_MAX + 500
    assert "10000000 characters" in stream.getvalue()
