"""What the watchdog sees of a loop, and what it does when nothing moves any more (P33, P35)."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any, Self, cast

import pytest
import trio
import trio.testing

from syncd import asking, watchdog
from syncd.errors import Unavailable
from syncd.events import Event, LoopResumed, LoopStalled, MemoryExceeded, ProcessCut, ProcessVitals
from syncd.model import EffectKind, Partition
from syncd.observe import Observer
from syncd.plugins import Pipeline
from syncd.watchdog import LOOK_SECONDS, Watchdog, is_cancelled, resident_bytes

SECRET = "a value that only a local variable holds"
DEADLINE_SECONDS = 30.0
HEED_SECONDS = 3.0


class Watched:
    """A watchdog that ends nothing, and what it said."""

    def __init__(
        self,
        *,
        stall_max_seconds: float = 3600.0,
        heed_seconds: float = 3600.0,
        memory_max_bytes: int | None = None,
    ) -> None:
        self.events: list[Event] = []
        self.ended: list[int] = []
        self.over = threading.Event()
        self.exceeded = trio.Event()
        observer = Observer()
        observer.listen(self.events.append)
        self.dog = Watchdog(
            observer,
            drain_seconds=0.0,
            memory_max_bytes=memory_max_bytes,
            exceeded=self.exceeded.set,
            end=self.end,
            stall_max_seconds=stall_max_seconds,
            heed_seconds=heed_seconds,
        )

    def end(self, code: int) -> None:
        self.ended.append(code)
        self.over.set()

    async def __aenter__(self) -> Self:
        trio.lowlevel.add_instrument(self.dog.pulse)
        threading.Thread(target=self.dog.watch, daemon=True).start()
        await trio.lowlevel.checkpoint()  # it sees steps from their beginnings
        return self

    async def __aexit__(self, *_: object) -> None:
        self.dog.over.set()
        trio.lowlevel.remove_instrument(self.dog.pulse)

    @property
    def troubles(self) -> list[Event]:
        return [event for event in self.events if not isinstance(event, ProcessVitals)]

    async def said(self, kind: type[Event]) -> Event:
        with trio.fail_after(DEADLINE_SECONDS):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                await trio.sleep(0.01)


def block(seconds: float, secret: str = SECRET) -> str:
    time.sleep(seconds)
    return secret


async def test_what_blocks_the_loop_is_named_without_a_value() -> None:
    async with Watched() as watched:
        block(1.0 + 20 * LOOK_SECONDS)
        stalled = await watched.said(LoopStalled)
        resumed = await watched.said(LoopResumed)

    assert isinstance(stalled, LoopStalled)
    assert isinstance(resumed, LoopResumed)
    assert "test_watchdog.block" in stalled.where.split(" < ")[0]
    assert SECRET not in stalled.where
    assert resumed.task == stalled.task
    assert resumed.seconds >= stalled.seconds >= 1.0


async def test_short_steps_in_a_row_are_no_stall() -> None:
    async with Watched() as watched:
        for _ in range(20):
            block(0.1)
            await trio.lowlevel.checkpoint()

    assert watched.troubles == []


async def test_an_hour_in_which_nobody_looked_was_no_stall() -> None:
    """A process that was stopped, or a machine that slept, does not blame the task it woke in."""
    watched = Watched()
    pulse = watched.dog.pulse
    pulse.task, pulse.step = trio.lowlevel.current_task(), 1
    pulse.since = time.monotonic() - 3600.0

    for _ in range(3):
        watched.dog._look_at_the_loop()
    await trio.lowlevel.checkpoint()
    assert watched.events == []

    for _ in range(3):
        watched.dog._look_at_the_loop()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(event) for event in watched.events] == [LoopStalled]


async def test_a_loop_that_never_comes_back_ends_the_process() -> None:
    async with Watched(stall_max_seconds=2.0) as watched:
        assert watched.over.wait(DEADLINE_SECONDS)

    assert watched.ended == [70]
    cut = next(event for event in watched.events if isinstance(event, ProcessCut))
    assert "did not let go of the event loop" in cut.reason
    assert "test_watchdog" in cut.stacks.splitlines()[0]


async def test_the_first_deadline_of_an_end_stands_and_a_nearer_one_replaces_it() -> None:
    async with Watched() as watched:
        watched.dog.ends_within(3600.0)
        watched.dog.ends_within(7200.0)
        watched.dog.signalled()  # its drain may take no time at all
        began = time.monotonic()
        with trio.fail_after(DEADLINE_SECONDS):
            await trio.to_thread.run_sync(watched.over.wait, DEADLINE_SECONDS)

    assert time.monotonic() - began >= watchdog.GRACE_SECONDS - LOOK_SECONDS
    assert watched.ended == [75]  # nobody's hook keeps it


async def test_memory_is_told_of_once_and_in_trios_thread() -> None:
    size = resident_bytes()
    if size is None:
        pytest.skip("needs /proc/self/statm")
    async with Watched(memory_max_bytes=size // 2) as watched:
        with trio.fail_after(DEADLINE_SECONDS):
            await watched.exceeded.wait()
        event = await watched.said(MemoryExceeded)
        await trio.sleep(3 * watchdog.MEMORY_LOOKS * LOOK_SECONDS)

    assert isinstance(event, MemoryExceeded)
    assert event.memory_max_bytes < event.resident_bytes
    assert [type(each) for each in watched.events].count(MemoryExceeded) == 1


async def test_nothing_is_said_of_memory_that_may_be_held() -> None:
    async with Watched(memory_max_bytes=1 << 50) as watched:
        await trio.sleep(3 * watchdog.MEMORY_LOOKS * LOOK_SECONDS)

    assert watched.troubles == []


async def test_the_vitals_count_what_there_is() -> None:
    async with Watched() as watched, trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        watched.events.clear()
        vitals = await watched.said(ProcessVitals)
        nursery.cancel_scope.cancel()

    assert isinstance(vitals, ProcessVitals)
    assert vitals.tasks > 50
    assert vitals.threads >= 2
    assert vitals.resident_bytes is None or vitals.resident_bytes > 10 << 20


# --- Hooks that do not heed their cancellation ---------------------------------------------------


class Asked:
    """What `asking.sliced` takes of a pipeline and a context."""

    partition = Partition("shop", "default", "items")
    plugin = "deaf"

    def __init__(self, partitions: Any) -> None:
        self.partitions = partitions


async def ask(hook: Any) -> None:
    asked: Any = Asked(hook)
    await asking.sliced(cast("Pipeline", asked), asked)


async def until(over: threading.Event) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while not over.is_set():  # noqa: ASYNC110  # set by a thread
            await trio.sleep(0.01)


@pytest.mark.parametrize("by", ["its deadline", "its run"])
async def test_a_hook_that_swallows_its_cancellation_ends_its_process(
    monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    enough = threading.Event()

    async def deaf(_: Any) -> Any:
        while not enough.is_set():
            with suppress(BaseException):
                await trio.sleep(0.01)
        return []

    if by == "its deadline":
        monkeypatch.setattr(asking, "FETCH_TIMEOUT_SECONDS", 0.1)
    async with Watched(heed_seconds=HEED_SECONDS) as there, trio.open_nursery() as nursery:
        with trio.CancelScope() as run:
            async with trio.open_nursery() as hooks:
                hooks.start_soon(ask, deaf)
                if by == "its run":
                    run.cancel()
                with trio.CancelScope(shield=True):
                    await until(there.over)
                enough.set()
                hooks.cancel_scope.cancel()
        nursery.cancel_scope.cancel()

    assert there.ended == [70]
    (cut,) = [event for event in there.events if isinstance(event, ProcessCut)]
    assert "ask did not heed its cancellation" in cut.reason
    assert "test_watchdog" in cut.stacks.splitlines()[0]


async def test_a_delivery_that_swallows_its_cancellation_ends_no_process() -> None:
    """It holds no lease: its lane names it, and goes on beside it."""
    kind = EffectKind("shop.letter", "all", deadline_seconds=0.1)
    enough = threading.Event()

    async def deaf(_: Any, __: Any) -> Any:
        while not enough.is_set():
            with suppress(BaseException):
                await trio.sleep(0.01)
            await trio.lowlevel.cancel_shielded_checkpoint()
            time.sleep(0.005)  # noqa: ASYNC251  # it would spin
        return {}

    async def deliver() -> None:
        asked: Any = Asked(deaf)
        with suppress(Unavailable):
            await asking.delivered(deaf, asked, kind, [])

    async with Watched(heed_seconds=0.1) as there, trio.open_nursery() as nursery:
        nursery.start_soon(deliver)
        with trio.fail_after(DEADLINE_SECONDS):
            while len(there.events) < 3:  # noqa: ASYNC110  # each is a look at what is cancelled
                await trio.sleep(0.05)
        enough.set()

    assert there.ended == []
    assert not any(isinstance(event, ProcessCut) for event in there.events)


async def test_a_hook_that_ends_its_work_behind_a_shield_has_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The deadline of its fetch is long past: it closes what it opened."""
    monkeypatch.setattr(asking, "FETCH_TIMEOUT_SECONDS", 0.1)
    shielded = trio.Event()

    async def careful(_: Any) -> Any:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                shielded.set()
                await trio.sleep(HEED_SECONDS + 5.0)

    async with Watched(heed_seconds=HEED_SECONDS) as there:
        with pytest.raises(Exception, match="took over"):
            await ask(careful)

    assert shielded.is_set()
    assert there.ended == []


async def test_what_is_cancelled_is_told_from_what_is_not() -> None:
    """Of another task: Trio has no public way to ask, and this is how its present way is known."""
    seen: list[tuple[bool, bool]] = []
    tasks: list[trio.lowlevel.Task] = []

    async def wait() -> None:
        tasks.append(trio.lowlevel.current_task())
        try:
            await trio.sleep_forever()
        finally:
            before = is_cancelled(tasks[0])
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
                seen.append((before, is_cancelled(tasks[0])))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not is_cancelled(tasks[0])
        nursery.cancel_scope.cancel()

    assert seen == [(True, False)]
