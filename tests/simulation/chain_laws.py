"""What must hold from mail to trackers, whatever befell the world; each law answers with breaks.

That every conversation is scanned, every shipment a row, and every tracker in its last state, is
among what is true of the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from inline import BEGAN_AT
from stand_ins.tracked import refuses

from syncd.events import RouteReceived, RunFinished, RunStarted

if TYPE_CHECKING:
    from seeds import Life
    from stand_ins.mail import Paid
    from stand_ins.office import State

SHIPMENTS = "SELECT DISTINCT tracking_number FROM front.shipments"
OUTDATED = """
    SELECT content->>'tracker_id' AS tracker, content->>'status_code' AS code, before, revision
    FROM (SELECT *, lag(revision) OVER (PARTITION BY content->>'tracker_id' ORDER BY id) AS before
          FROM (SELECT *, (content->>'revision')::numeric AS revision FROM simulated.written
                WHERE name = 'ship24.trackers') AS every) AS written
    WHERE revision < before
"""
OF_NOBODY = """
    SELECT name, content FROM simulated.written w
    WHERE NOT EXISTS (SELECT FROM simulated.committed c WHERE c.transaction = w.transaction)
      AND NOT EXISTS (SELECT FROM simulated.heard h WHERE h.transaction = w.transaction)
"""
HEARD = "SELECT event_id, count(*) AS times, min(at) AS at FROM simulated.heard GROUP BY 1"
FIRST_WRITTEN = """
    SELECT content->>'event_id' AS event_id, min(at) AS at FROM simulated.written
    WHERE name = 'ship24.tracking_events' GROUP BY 1
"""
SCANNED = """
    SELECT content->>'account_id' AS company, content->>'conversation_id' AS conversation,
           (content->>'messages')::int AS messages, min(at) AS at
    FROM simulated.written WHERE name = 'front.scanned_conversations' GROUP BY 1, 2, 3
"""
NOTED_ASIDE = "SELECT account, raw, at FROM simulated.aside ORDER BY at DESC"
ASIDE = "SELECT account, stream, raw FROM syncd.quarantine WHERE instance = 'front'"
TRIED = "SELECT kind, key, attempts FROM syncd.effect ORDER BY id"
PARKED = "SELECT account, state, at FROM simulated.parked ORDER BY at, state"
LOSING = {"crash", "outage", "lease"}
OF_MAIL = ("scanned_conversations", "shipments")


def every_shipment_has_one_tracker(life: Life) -> Iterator[str]:
    if life.postman is None:
        return
    made = Counter(parcel.number for parcel in life.postman.tracked.ship24.parcels.values())
    for row in life.world.rows(SHIPMENTS):  # one for both of two companies, too
        number = row["tracking_number"]
        if made[number] != (0 if refuses(number) else 1):
            yield f"{number} has {made[number]}"


def a_newer_state_is_never_overwritten(life: Life) -> Iterator[str]:
    if life.postman is not None:
        for row in life.world.rows(OUTDATED):
            yield f"{row}"


def what_a_webhook_writes_is_written_once(life: Life) -> Iterator[str]:
    """A row is written under a lease, or with an event that was not known before."""
    if life.postman is None:
        return
    for row in life.world.rows(OF_NOBODY):
        yield f"{row} of no page, and of no event that was new"
    heard = life.world.rows(HEARD)
    for row in heard:
        if row["times"] > 1:
            yield f"{row['event_id']} was new {row['times']} times"
    new = sum(not event.repeated for _, _, event in life.world.told(RouteReceived))
    if new > len(heard):
        yield f"{new} were told of as new, and {len(heard)} are known"


def what_is_answered_well_is_committed(life: Life) -> Iterator[str]:
    if life.postman is None:
        return
    seconds = {row["event_id"]: _seconds(row) for row in life.world.rows(HEARD)}
    written = {row["event_id"]: _seconds(row) for row in life.world.rows(FIRST_WRITTEN)}
    for each in life.postman.answers:
        if each.status >= 300:
            continue
        known = [seconds.get(each.message_id), *(written.get(name) for name in each.event_ids)]
        if any(at is None or at > each.at for at in known):
            yield f"{each.message_id} at {each.at:.3f}, known at {known}"


def every_webhook_is_heard_in_the_end(life: Life) -> Iterator[str]:
    if life.postman is None:
        return
    if left := len(life.postman.tracked.ship24.webhooks):
        yield f"{left} are not"
    strange = {each.status for each in life.postman.answers} - {200, 503}
    if strange:
        yield f"some were answered with {strange}"
    for at, _, event in life.world.told(RouteReceived):
        if event.quarantined:
            yield f"{event.quarantined} records were set aside at {at:.3f}"


def nothing_is_paid_for_again_once_it_is_committed(life: Life) -> Iterator[str]:
    """But by a run that had begun before, and lost its lease: it knew nothing of the commit."""
    if life.postman is None:
        return
    texts, known = life.postman.mail.texts(), _known(life)
    for paid in life.postman.mail.paid:
        states = texts.get(paid.text)
        if states is None:
            yield f"a text that nobody wrote: {paid.text[:60]!r}"
            continue
        at = [known.get((each.company, each.name, each.messages)) for each in states]
        late = [each for each in at if each is not None and each < paid.left_at]
        if len(late) < len(at) or _was_away(life, paid, states, max(late)):
            continue
        yield f"{states} at {paid.left_at:.3f}, committed at {max(late):.3f}"


def _known(life: Life) -> dict[tuple[str, str, int], float]:
    """Return when each state of a thread was committed: as a row, or set aside."""
    known = {
        (company, thread["conversation_id"], len(thread["messages"])): _seconds(row)
        for row in life.world.rows(NOTED_ASIDE)
        for company, thread in [(row["account"], msgspec.json.decode(row["raw"]))]
    }
    rows = life.world.rows(SCANNED)
    return known | {(r["company"], r["conversation"], r["messages"]): _seconds(r) for r in rows}


def _was_away(life: Life, paid: Paid, states: Sequence[State], since: float) -> bool:
    """Say whether what a daemon ran at a moment had begun before another one, and was lost."""
    companies = {each.company for each in states}
    began = [
        (at, event)
        for at, number, event in life.world.told(RunStarted)
        if number == paid.sender and at <= paid.left_at and _company(event.partition) in companies
    ]
    last = {_company(event.partition): (at, event) for at, event in began}
    return any(
        at < since and _status(life, event.run_id) != "complete" for at, event in last.values()
    )


def _company(partition: str) -> str:
    """Return whose mail a partition is; empty where it is none."""
    name, _, account = partition.partition("[")
    return account.rstrip("]").split(",")[0] if name.startswith("front.") else ""


def _status(life: Life, run_id: object) -> str | None:
    ended = (event for _, _, event in life.world.told(RunFinished) if event.run_id == run_id)
    last = next(ended, None)
    return None if last is None else last.status


def a_calm_world_pays_once(life: Life) -> Iterator[str]:
    if life.postman is None or not life.plan.calm:
        return
    for text, times in Counter(paid.text for paid in life.postman.mail.paid).items():
        if times > len(life.postman.mail.texts().get(text, ())):
            yield f"{times} times for {text[:60]!r}"


def what_the_model_refuses_is_set_aside_and_nowhere_else(life: Life) -> Iterator[str]:
    """Its rows are among those that are not true."""
    if life.postman is None or "front" not in life.last:
        return
    found: dict[tuple[str, str, str], int] = {}  # the most messages: each state is one more
    for row in life.world.rows(ASIDE):
        thread = msgspec.json.decode(row["raw"])
        name = (row["account"], row["stream"], thread["conversation_id"])
        found[name] = max(found.get(name, 0), len(thread["messages"]))
    ever = set()
    for office in life.postman.mail.offices.values():
        for state in office.states.values():
            if state.refused:
                ever |= {(state.company, stream, state.name) for stream in OF_MAIL}
        for conversation in office.standing:
            state = office.state(conversation)
            for name in [(state.company, stream, state.name) for stream in OF_MAIL]:
                if state.refused and found.get(name) != state.messages:
                    yield f"{name} is at {found.get(name)} messages of {state.messages}"
    for name in found.keys() - ever:
        yield f"{name} was never refused"


def the_end_of_a_quota_costs_no_attempt(life: Life) -> Iterator[str]:
    """Where a daemon ends or stands still, what it had claimed and never recorded costs one."""
    if life.postman is None:
        return
    tracked = life.postman.tracked
    lost = sum(trouble.kind in LOSING for trouble in life.plan.troubles)
    lost += life.plan.dies_at is not None
    for row in life.world.rows(TRIED):
        key, sent = row["key"], len(tracked.sent.get((row["kind"], row["key"]), ()))
        over = tracked.over_quota[key]
        if over and row["attempts"] > sent - over + lost:
            yield f"{key}: {row['attempts']} attempts, sent {sent} times, {over} of them too many"


def what_was_merged_is_read_where_it_went(life: Life) -> Iterator[str]:
    """In the same run: nobody knows that a merge is a change of the conversation that stays."""
    if life.postman is None or life.plan.store_chance:
        return  # what is committed, and not known to be, is read in another run
    reads = life.postman.mail.reads
    met = set()
    for each in reads:
        if each.moved_to is None or (each.company, each.name, each.moved_to) in met:
            continue  # one that a pass meets again, in a newer state, has led there before
        met.add((each.company, each.name, each.moved_to))
        until = _complete_at(life, each.company, each.sender, each.at)
        name = (each.company, each.moved_to)
        after = (read for read in reads if (read.company, read.name) == name)
        if until and not any(each.at < read.at <= until for read in after):
            yield f"{each.company} {each.name} at {each.at:.3f}, merged into {each.moved_to}"


def _complete_at(life: Life, company: str, sender: int, at: float) -> float | None:
    """Return when the run ended that was under way then, where it came to its end."""
    began = [
        event.run_id
        for when, number, event in life.world.told(RunStarted)
        if when <= at and number == sender and _company(event.partition) == company
    ]
    ended = (
        when
        for when, _, event in life.world.told(RunFinished)
        if began and event.run_id == began[-1] and event.status == "complete" and when >= at
    )
    return next(ended, None)


def what_nobody_has_paid_for_parks(life: Life) -> Iterator[str]:
    """One try costs one question; another may come where the answer or the parking was lost."""
    if life.postman is None:
        return
    parked = [_seconds(row) for row in life.world.rows(PARKED) if row["state"] == "parked"]
    asked: dict[tuple[int, str], list[float]] = {}
    for each in life.postman.mail.unpaid:
        asked.setdefault((each.sender, each.text), []).append(each.left_at)
    for (_, text), at in asked.items():
        for first, third in zip(at, at[2:], strict=False):
            if not any(first < when < third for when in parked):
                yield f"three times from {first:.3f} to {third:.3f} for {text[:60]!r}"


def what_is_parked_is_let_alone_until_it_is_resumed(life: Life) -> Iterator[str]:
    """And goes on then."""
    if life.postman is None:
        return
    parked_at: dict[str, float] = {}
    began = [(at, _company(e.partition), e) for at, _, e in life.world.told(RunStarted)]
    for row in life.world.rows(PARKED):
        company, at = row["account"], _seconds(row)
        if row["state"] == "parked":
            parked_at[company] = at
        elif company in parked_at:
            since = parked_at.pop(company)
            runs = [(when, event) for when, whose, event in began if whose == company]
            for when, event in runs:
                if since < when < at:
                    yield f"{event.partition} began at {when:.3f}, parked from {since:.3f}"
            after = (event for when, event in runs if when >= at)
            if not any(_status(life, event.run_id) == "complete" for event in after):
                yield f"{company} was resumed at {at:.3f}, and no run of it came to its end"


def _seconds(row: dict[str, object]) -> float:
    return (row["at"] - BEGAN_AT).total_seconds()  # type: ignore[operator, no-any-return]


LAWS: tuple[Callable[[Life], Iterator[str]], ...] = (
    every_shipment_has_one_tracker,
    a_newer_state_is_never_overwritten,
    what_a_webhook_writes_is_written_once,
    what_is_answered_well_is_committed,
    every_webhook_is_heard_in_the_end,
    nothing_is_paid_for_again_once_it_is_committed,
    a_calm_world_pays_once,
    what_the_model_refuses_is_set_aside_and_nowhere_else,
    the_end_of_a_quota_costs_no_attempt,
    what_was_merged_is_read_where_it_went,
    what_nobody_has_paid_for_parks,
    what_is_parked_is_let_alone_until_it_is_resumed,
)
