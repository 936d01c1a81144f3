"""The turns of derived partitions in a round, at moments that the test chooses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from syncd.model import Account, Connector, Instance, Mode, Partition, Pass, Upstream
from syncd.progress import Anew, Next, Wanted
from syncd.rounds import BY_DEFAULT, JobState, Judged, Sequel
from syncd.store import leases, passes, registry, rounds
from syncd.store.hops import Connection
from syncd.store.leases import Effort, Lease

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WANTED = Wanted("full", "r", {}, "1", 3600.0)
FEEDS = ("a", "b", "leads", "calls")


def known(connection: Connection) -> dict[str, int]:
    """Make partitions of two feeds known, and of two that are derived; answer with their ids."""
    connector = Connector("c", "1", object, (), lambda *_: Upstream("http://x", ()))
    instance = Instance("i", connector, None, (Account("default", None),))
    registry.register_instance(connection, instance, now=NOW)
    rounds.register(connection, {"j": ("1h", NOW)}, now=NOW)
    parts = [Partition("i", "default", feed) for feed in FEEDS]
    return dict(zip(FEEDS, registry.register_partitions(connection, parts, now=NOW), strict=True))


def sequels(ids: dict[str, int]) -> list[Sequel]:
    return [
        Sequel("leads", frozenset({"a", "b"}), (ids["leads"],)),
        Sequel("calls", frozenset({"leads"}), (ids["calls"],)),
    ]


def state(connection: Connection, now: datetime = NOW) -> JobState:
    (found,) = rounds.states(connection, {"j": 4}, now=now)
    return found


def begun(connection: Connection, ids: dict[str, int]) -> None:
    assert rounds.begin(
        connection,
        state(connection),
        [ids["a"], ids["b"]],
        trigger="schedule",
        next_at=None,
        jitter_seconds=0.0,
        known=["j"],
        now=NOW,
    )


def end(connection: Connection, seen: JobState, ids: dict[str, int]) -> Judged | None:
    return rounds.end(
        connection,
        seen,
        thresholds=BY_DEFAULT,
        cancelled=False,
        followers={},
        sequels=sequels(ids),
        known=["j"],
        now=NOW,
    )


def claimed(connection: Connection, now: datetime = NOW, **narrowed: Any) -> Lease | None:
    asked: dict[str, Any] = {"free": 1, "lease_seconds": 30.0, "owner": uuid4(), "token": uuid4()}
    asked |= {"job": "j", "wanted": True, "now": now}
    found = leases.claim(connection, **asked | narrowed)
    return found[0] if found else None


def walked(connection: Connection, *, now: datetime = NOW, mode: Mode = "full") -> str | None:
    """Claim what is due, walk a pass of no pages, give it back; answer with its feed."""
    lease = claimed(connection, now)
    if lease is None:
        return None
    active = passes.begin(
        connection,
        lease,
        Anew(mode, None, None, "asked for"),
        answered=Pass(mode, ()),
        wanted=WANTED,
        nodes=(),
        until=now,
        now=now,
    )
    later = now + timedelta(seconds=1)
    assert passes.complete(connection, lease, active.id, WANTED, now=later)
    decided = Next("complete", None, 0, "")
    leases.release(
        connection,
        lease,
        decided,
        job="j",
        committed=True,
        effort=Effort(),
        error_class=None,
        now=later,
    )
    return lease.partition.feed


def test_each_has_its_turn_after_what_it_reads_and_the_round_ends_after_the_last(
    connection: Connection,
) -> None:
    ids = known(connection)
    begun(connection, ids)
    assert {walked(connection), walked(connection)} == {"a", "b"}
    assert walked(connection) is None, "a turn of its own comes later"

    turns = []
    while (judged := end(connection, seen := state(connection), ids)) is None:
        assert state(connection).owed == 1
        assert end(connection, seen, ids) is None, "another daemon that looked at the same moment"
        assert state(connection).owed == 1
        turns.append(walked(connection))

    assert turns == ["leads", "calls"]
    assert (judged.status, judged.partitions, judged.complete) == ("complete", 4, 4)
    assert end(connection, seen, ids) is None, "it has ended"


def test_a_derived_partition_that_is_set_aside_holds_no_round(connection: Connection) -> None:
    ids = known(connection)
    connection.execute(
        "UPDATE syncd.partition SET state = 'parked', parked_reason = 'x' WHERE feed = 'leads'"
    )
    begun(connection, ids)
    assert {walked(connection), walked(connection)} == {"a", "b"}

    assert end(connection, state(connection), ids) is None
    assert state(connection).owed == 0
    assert end(connection, state(connection), ids) is None
    assert walked(connection) == "calls"

    judged = end(connection, state(connection), ids)
    assert judged is not None
    assert judged.message == "3 of 4 complete; 1 parked"


def test_between_rounds_a_pass_that_ended_since_makes_due_what_is_made_of_it(
    connection: Connection,
) -> None:
    ids = known(connection)
    after = sequels(ids)
    assert rounds.catch_up(connection, "j", after, now=NOW) == 0, "no pass has ended"
    connection.execute("UPDATE syncd.partition SET job = 'j' WHERE feed IN ('a', 'b')")
    assert walked(connection) in {"a", "b"}
    at_work = claimed(connection)
    assert at_work is not None
    assert rounds.catch_up(connection, "j", after, now=NOW) == 0, "it waits for who is at work"
    leases.expire(connection, at_work)
    connection.execute("UPDATE syncd.partition SET token = NULL, owner = NULL, lease_until = NULL")
    moment = NOW
    order = []

    for _ in range(4):
        moment += timedelta(minutes=1)
        connection.execute("UPDATE syncd.partition SET job = NULL WHERE feed IN ('a', 'b')")
        if rounds.catch_up(connection, "j", after, now=moment):
            assert rounds.catch_up(connection, "j", after, now=moment) == 0, "it is due already"
            order.append(walked(connection, now=moment))

    assert order == ["leads", "calls"]
