"""What must hold in every world, whatever befell it; each law answers with what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import chain_laws
import effect_laws
from inline import BEGAN_AT
from scenes import WINDOW_SECONDS

from syncd.events import RoundSkipped, RoundStarted, RunFinished

if TYPE_CHECKING:
    from seeds import Life


STUCK = {
    "leased": "SELECT id, owner FROM syncd.partition WHERE token IS NOT NULL",
    "parked": "SELECT id, parked_reason FROM syncd.partition WHERE state = 'parked'",
    "account parked": "SELECT name, parked_reason FROM syncd.account WHERE state = 'parked'",
    "open": (
        "SELECT p.id, count(*) AS cursors FROM syncd.frontier f"
        " JOIN syncd.pass p ON p.id = f.pass_id"
        " WHERE f.state = 'open' AND p.state = 'open' GROUP BY 1"
    ),
    "running": "SELECT id, partition_id, owner FROM syncd.run WHERE status = 'running'",
    "effect": "SELECT kind, key, state, last_error FROM syncd.effect WHERE due_at IS NOT NULL",
    "round": "SELECT job, number FROM syncd.round WHERE status = 'running'",
}


def broken(life: Life) -> Iterator[str]:
    """Yield what is found against each law."""
    for law in LAWS:
        for found in law(life):
            yield f"{law.__name__.replace('_', ' ')}: {found}"


def the_last_rounds_are_complete(life: Life) -> Iterator[str]:
    for scene in life.scenes:
        if scene.name not in life.last:
            yield f"no round of {scene.name} ended complete after the weather cleared"


def the_tables_hold_what_is_true(life: Life) -> Iterator[str]:
    for scene in life.scenes:
        if scene.name not in life.last:
            continue
        found, true = life.world.tuples(scene.truth), scene.upstream.truth()
        if missing := true - found:
            yield f"{len(missing)} rows of {scene.name} are missing, as {min(missing, key=repr)}"
        if strange := found - true - scene.remains():
            one = min(strange, key=repr)
            yield f"{len(strange)} rows of {scene.name} are no more true, as {one}"


def no_quota_is_breached(life: Life) -> Iterator[str]:
    for scene in life.scenes:
        for key, judge in scene.upstream.judges.items():
            if judge.breaches and scene.announced:
                yield f"{key}: {judge.breaches} of {judge.calls} calls"
            if judge.calls_while_locked:
                yield f"{key}: {judge.calls_while_locked} calls while locked"


def every_daemon_ends(life: Life) -> Iterator[str]:
    if not life.ended:
        yield "a drain with nothing left to do did not come to its end"


def nothing_is_stuck(life: Life) -> Iterator[str]:
    for what, query in STUCK.items():
        for row in life.world.rows(query):
            yield f"{what}: {row}"


def each_cursor_is_closed_once(life: Life) -> Iterator[str]:
    for row in life.world.rows(
        "SELECT pass, count(*) AS times FROM simulated.closed"
        " GROUP BY pass, cursor_key, cursor_version HAVING count(*) > 1"
    ):
        yield f"one of pass {row['pass']}: {row['times']} times"


def moments_come_once_and_on_their_grid(life: Life) -> Iterator[str]:
    every = life.plan.every_seconds
    for job in life.world.rows("SELECT name, next_at FROM syncd.job ORDER BY name"):
        origin = (job["next_at"] - BEGAN_AT).total_seconds() % every
        started = [
            at
            for at, _, event in life.world.told(RoundStarted)
            if event.job == job["name"] and event.trigger == "schedule"
        ]
        moments = [_moment(at, origin, every) for at in started]
        if len(set(moments)) < len(moments):
            yield f"rounds of {job['name']} began at {started}, every {every:g} s"
        if life.plan.calm:
            passed = [at for at, _, e in life.world.told(RoundSkipped) if e.job == job["name"]]
            seen = {*moments, *(_moment(at, origin, every) for at in passed)}
            yield from _late(life, job["name"], started, origin)
            if lost := set(range(_moment(life.cleared_at, origin, every))) - seen:
                yield f"moments {sorted(lost)} of {job['name']} neither began a round nor passed by"


def _moment(at: float, origin: float, every: float) -> int:
    return int((at - origin + 1e-6) // every)


def _late(life: Life, job: str, started: list[float], origin: float) -> Iterator[str]:
    for at in started:
        if (late := (at - origin) % life.plan.every_seconds) > life.plan.look_seconds + 1.0:
            yield f"a round of {job} began {late:.3f} s late, at {at:.3f}"


def a_huge_account_delays_no_small_one(life: Life) -> Iterator[str]:
    """In the last round, by the bound of list scheduling: whoever is free takes the next.

    With m slots beside the one that the huge account holds, an account has ended after the work of
    all the small ones, divided by m, and its own (Graham, 1969).
    """
    if life.postman is not None:  # mail comes as it pleases
        return
    ended = life.last.get(life.scene.name)
    slots = life.concurrency * len(life.world.daemons) - 1
    if ended is None or slots < 1:
        return
    began_at = next(
        at
        for at, _, event in life.world.told(RoundStarted)
        if (event.job, event.number) == (ended.job, ended.number)
    )
    seconds = {name: life.service_seconds(pages) for name, pages in life.scene.accounts.items()}
    huge = max(seconds, key=lambda name: seconds[name])
    small = sum(seconds.values()) - seconds[huge]
    for at, _, event in life.world.told(RunFinished):
        name = event.partition.partition("[")[2].rstrip("]").split(",")[0]
        in_time = 0 <= at - began_at <= ended.duration_seconds
        if not in_time or name == huge or name not in seconds:
            continue
        # What earlier rounds have spent of the limit may have to be waited for, once.
        at_first = 2 * life.plan.look_seconds + WINDOW_SECONDS
        allowed = at_first + small / slots + seconds[name]
        if at - began_at > allowed:
            yield f"{name} ended after {at - began_at:.1f} s, and {allowed:.1f} s are allowed"


def it_stays_small(life: Life) -> Iterator[str]:
    pages = life.world.rows("SELECT count(*) AS pages FROM simulated.closed")[0]["pages"]
    if pages > life.plan.pages_max:
        yield f"{pages} pages"


LAWS: tuple[Callable[[Life], Iterator[str]], ...] = (
    the_last_rounds_are_complete,
    the_tables_hold_what_is_true,
    no_quota_is_breached,
    every_daemon_ends,
    nothing_is_stuck,
    each_cursor_is_closed_once,
    moments_come_once_and_on_their_grid,
    a_huge_account_delays_no_small_one,
    it_stays_small,
    *effect_laws.LAWS,
    *chain_laws.LAWS,
)
