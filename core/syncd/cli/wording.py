"""Numbers and events in words, for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from syncd import events
from syncd.events import Event
from syncd.model import LOST, Quota


def count(number: int) -> str:
    """Write a count: ``190,000``."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Write a count with its noun: ``1 page``, ``190 pages``."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def seconds(length: float) -> str:
    """Write a length of time: ``4.2 s``, ``42 s``, ``3m05s``, ``2h07m``."""
    if length < 9.95:
        return f"{length:.1f} s"
    whole = round(length)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def listed(names: Sequence[str], *, most: int) -> str:
    """Write names in a row, and how many there are beyond the first: ``a, b and 3 more``."""
    row = ", ".join(names[:most])
    return f"{row} and {count(len(names) - most)} more" if len(names) > most else row


def rate(records_per_second: float) -> str:
    """Write a rate: whole numbers, but for slow ones."""
    if 0 < records_per_second < 10:
        return f"{records_per_second:.1f}"
    return f"{records_per_second:,.0f}"


def told(event: Event) -> str:
    """Say an event in one line."""
    match event:
        case events.RunProgress():
            return progress(event)
        case events.RunStarted() | events.RunFinished():
            return _of_a_run(event)
        case events.RunPaid(unit=unit) if unit == LOST:
            return f"{event.partition}: {counted(event.paid, 'answer')} lost, which may cost, too"
        case events.RunPaid():
            return f"{event.partition}: its answers cost {event.paid} {event.unit}"
        case events.PassSuperseded() | events.PassFinished() | events.PartitionParked():
            return _of_a_pass(event)
        case events.CursorFailed() | events.RecordsQuarantined() | events.RequestRetried():
            return _of_trouble(event)
        case events.LimitLocked() | events.LeaseLost() | events.LeaseWaiting():
            return _of_waiting(event)
        case events.LimitAdjusted() | events.BreakerOpened() | events.BreakerClosed():
            return _of_limits(event)
        case (
            events.TableChanged()
            | events.EmbeddedStarted()
            | events.DbUnavailable()
            | events.DbRecovered()
            | events.DbExhausted()
            | events.ConnectionRefused()
            | events.DbPool()
        ):
            return _of_the_database(event)
        case events.DrainStarted():
            return drain(event)
        case events.LoopStalled() | events.LoopResumed() | events.ProcessCut():
            return _of_the_loop(event)
        case events.MemoryExceeded():
            held, most = event.resident_bytes >> 20, event.memory_max_bytes >> 20
            return f"{held} MiB of memory, where daemon.memory_max allows {most} MiB"
        case _:
            fields = attrs.asdict(event).items()
            return " ".join([event.name, *(f"{name}={value}" for name, value in fields)])


def progress(event: events.RunProgress) -> str:
    """Say how far a run is; what nobody knows is left out."""
    so_far = counted(event.processed, "record")
    if event.total is not None:
        so_far = f"{count(event.processed)} of {counted(event.total, 'record')}"
    if event.percent is not None:
        so_far += f" ({event.percent:.1f} %)"
    parts = [so_far, f"{rate(event.rate)}/s"]
    if event.eta_seconds is not None:
        parts.append(f"{seconds(event.eta_seconds)} left")
    parts.append(f"{event.in_flight} in flight")
    if event.throttled_seconds:
        parts.append(f"throttled for {seconds(event.throttled_seconds)}")
    return f"{placed(event)}: {', '.join(parts)}"


def placed(event: events.RunStarted | events.RunProgress) -> str:
    """Name a run's partition, and which one of how many it is."""
    return f"{event.partition} ({event.turn}/{event.turns})" if event.turns else event.partition


def drain(event: events.DrainStarted) -> str:
    """Say that the process is stopping, and what to do if that takes too long."""
    at_most = seconds(event.deadline_seconds)
    return (
        f"{event.reason}: stopping; what is fetched is being committed, {at_most} at most "
        "(the same signal again stops at once)"
    )


def _of_the_loop(event: events.LoopStalled | events.LoopResumed | events.ProcessCut) -> str:
    match event:
        case events.LoopStalled():
            return f"nothing moves: {event.task} blocks for {event.seconds} s at {event.where}"
        case events.LoopResumed():
            return f"it moves again: {event.task} had blocked for {event.seconds} s"
        case events.ProcessCut():
            return f"{event.reason}; the process is ended; {' | '.join(event.stacks.splitlines())}"


def _of_a_run(event: events.RunStarted | events.RunFinished) -> str:
    if isinstance(event, events.RunStarted):
        verb = "goes on with" if event.resumed else "begins"
        return f"{placed(event)}: {verb} {event.mode} pass {event.pass_number}"
    what = f"{counted(event.records, 'record')} in {seconds(event.duration_seconds)}"
    why = f": {event.message}" if event.message else ""
    return f"{event.partition}: {event.status}, {what}{why}"


def _of_a_pass(
    event: events.PassSuperseded | events.PassFinished | events.PartitionParked,
) -> str:
    match event:
        case events.PassSuperseded():
            return f"{event.partition}: pass {event.pass_number} is set aside: {event.reason}"
        case events.PassFinished():
            size = f"{counted(event.pages, 'page')}, {counted(event.records, 'record')}"
            which = f"{event.mode} pass {event.pass_number}"
            return f"{event.partition}: {which} ended {event.status}: {size}"
        case events.PartitionParked():
            return f"{event.partition}: parked: {event.reason}"


def _of_trouble(
    event: events.CursorFailed | events.RecordsQuarantined | events.RequestRetried,
) -> str:
    match event:
        case events.CursorFailed(retry_in_seconds=wait):
            then = "given up in this pass" if wait is None else f"tried again in {seconds(wait)}"
            which = f"{event.cursor} failed ({counted(event.attempts, 'attempt')})"
            return f"{event.partition}: {which}: {event.error}; {then}"
        case events.RecordsQuarantined():
            those = f"{counted(event.count, 'record')} of {event.stream}"
            return f"{event.partition}: {those} set aside ({event.reason}): {event.message}"
        case events.RequestRetried():
            why = event.reason if event.status is None else f"{event.reason}, {event.status}"
            after = f"after {seconds(event.wait_seconds)}"
            return f"{event.upstream}: {event.path} is sent again ({why}) {after}"


def _of_limits(
    event: events.LimitAdjusted | events.BreakerOpened | events.BreakerClosed,
) -> str:
    match event:
        case events.LimitAdjusted(requests_per_second=pace):
            paced = "" if pace is None else f", {pace:.3g} requests a second"
            return f"{event.quota}: at most {event.in_flight_max} in flight{paced}"
        case events.BreakerOpened():
            failed = f"{event.origin} failed {event.failures} times in a row"
            return f"{event.quota}: {failed}; it is left alone for {seconds(event.seconds)}"
        case events.BreakerClosed():
            return f"{event.quota}: {event.origin} answers again"


def _of_waiting(event: events.LimitLocked | events.LeaseLost | events.LeaseWaiting) -> str:
    match event:
        case events.LimitLocked():
            who = "the upstream asked for it" if event.announced else "a backoff of our own"
            return f"{event.quota}: no request for {seconds(event.seconds)} ({who})"
        case events.LeaseLost():
            return f"{event.partition}: its lease (epoch {event.epoch}) is lost; nothing is written"
        case events.LeaseWaiting():
            lasts = f"its lease lasts {seconds(event.lease_seconds)} unless renewed"
            return f"{event.partition}: {event.holder} holds it, {lasts}; waiting"


def _of_the_database(
    event: events.TableChanged
    | events.EmbeddedStarted
    | events.DbUnavailable
    | events.DbRecovered
    | events.DbExhausted
    | events.ConnectionRefused
    | events.DbPool,
) -> str:
    match event:
        case events.TableChanged():
            return f"{event.table}: {counted(event.statements, 'statement')} of DDL"
        case events.EmbeddedStarted():
            how = "started" if event.started else "joined"
            return f"embedded postgresql {event.version} {how} in {event.data_dir}"
        case events.DbUnavailable():
            return f"the database is unavailable: {event.error}"
        case events.DbRecovered():
            return f"the database is back after {seconds(event.seconds)}"
        case events.DbExhausted():
            return f"nothing more is claimed: {event.error}"
        case events.ConnectionRefused():
            has = f"{event.size} of {counted(event.pool_max, 'connection')}"
            return f"database: going on with {has}: {event.error}"
        case events.DbPool():
            most = counted(event.pool_max, "connection")
            allows = f", the server allows no {event.capped_from}" if event.capped_from else ""
            return f"database: {event.size} of {most}, {event.waiting} waited for{allows}"


def quota(kept: Quota) -> str:
    """Say what a quota allows: ``600 requests in any 60 s, 8 at once``."""
    windows = [window(each.form, each.most, each.per_seconds, each.unit) for each in kept.windows]
    adaptive = ["as far as refusals let it"] if kept.adaptive else []
    return ", ".join([*windows, f"{count(kept.concurrency)} at once", *adaptive])


def window(form: str, most: int, per_seconds: float, unit: str) -> str:
    """Say what a window allows."""
    word = {"sliding": "in any", "fixed": "in each"}.get(form, "per")
    return f"{count(most)} {unit} {word} {seconds(per_seconds)}"


def plain(value: Any) -> str:
    """Write a table's cell: nothing for what is not there."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return str(value)


def moment(at: datetime | None) -> str:
    """Write a moment as the clock on the wall shows it; nothing where there is none."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count_of_bytes: int) -> str:
    """Write a size: ``512 B``, ``64.0 KiB``, ``1.1 GiB``."""
    if count_of_bytes < 1024:
        return f"{count_of_bytes} B"
    amount = float(count_of_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def visible(text: str) -> str:
    r"""Write what an upstream said so that no terminal obeys it: control characters as ``\x1b``."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def cut(text: str, most: int) -> str:
    """Write a text in one line of so many characters at most."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."
