"""What must hold from mail to trackers, whatever befell the world; each law answers with breaks.

That every conversation is scanned, every shipment a row, and every tracker in its last state, is
among what is true of the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from inline import BEGAN_AT
from stand_ins.tracked import refuses

from syncd.events import RouteReceived, RunFinished, RunStarted

if TYPE_CHECKING:
    from seeds import Life

SHIPMENTS = "SELECT tracking_number FROM front.shipments"
OUTDATED = """
    SELECT content->>'tracker_id' AS tracker, content->>'status_code' AS code, before, revision
    FROM (SELECT *, lag(revision) OVER (PARTITION BY content->>'tracker_id' ORDER BY id) AS before
          FROM (SELECT *, (content->>'revision')::numeric AS revision FROM simulated.written
                WHERE name = 'ship24.trackers') AS every) AS written
    WHERE revision < before
"""
OF_NOBODY = """
    SELECT name, content FROM simulated.written w
    WHERE NOT EXISTS (SELECT FROM simulated.closed c WHERE c.transaction = w.transaction)
      AND NOT EXISTS (SELECT FROM simulated.heard h WHERE h.transaction = w.transaction)
"""
HEARD = "SELECT event_id, count(*) AS times, min(at) AS at FROM simulated.heard GROUP BY 1"
FIRST_WRITTEN = """
    SELECT content->>'event_id' AS event_id, min(at) AS at FROM simulated.written
    WHERE name = 'ship24.tracking_events' GROUP BY 1
"""
SCANNED = """
    SELECT content->>'conversation_id' AS conversation, (content->>'messages')::int AS messages,
           min(at) AS at
    FROM simulated.written WHERE name = 'front.scanned_conversations' GROUP BY 1, 2
"""


def every_shipment_has_one_tracker(life: Life) -> Iterator[str]:
    if life.postman is None:
        return
    made = Counter(parcel.number for parcel in life.postman.tracked.ship24.parcels.values())
    for row in life.world.rows(SHIPMENTS):
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
    threads = life.postman.mail.threads()
    rows = life.world.rows(SCANNED)
    scanned = {(row["conversation"], row["messages"]): _seconds(row) for row in rows}
    for paid in life.postman.mail.paid:
        if paid.text not in threads:
            yield f"a text that nobody wrote: {paid.text[:60]!r}"
            continue
        known = [scanned.get(state) for state in threads[paid.text]]
        late = [at for at in known if at is not None and at < paid.left_at]
        if len(late) < len(known) or _was_away(life, paid.sender, paid.left_at, max(late)):
            continue
        yield f"{threads[paid.text]} at {paid.left_at:.3f}, committed at {max(late):.3f}"


def _was_away(life: Life, sender: int, at: float, since: float) -> bool:
    """Say whether what a daemon ran at a moment had begun before another one, and was lost."""
    began = (
        (when, event)
        for when, number, event in life.world.told(RunStarted)
        if number == sender and event.partition.startswith("front.") and when <= at
    )
    began_at, run = max(began, key=lambda each: each[0])
    ended = (event for _, _, event in life.world.told(RunFinished) if event.run_id == run.run_id)
    last = next(ended, None)
    return began_at < since and (last is None or last.status != "complete")


def a_calm_world_pays_once(life: Life) -> Iterator[str]:
    if life.postman is None or not life.plan.calm:
        return
    for text, times in Counter(paid.text for paid in life.postman.mail.paid).items():
        if times > len(life.postman.mail.threads().get(text, ())):
            yield f"{times} times for {text[:60]!r}"


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
)
