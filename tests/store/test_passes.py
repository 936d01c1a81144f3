"""Leases, passes and debt in the database, at moments that the test chooses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from database import connect

from syncd.errors import FrontierMoved, LeaseLost
from syncd.model import Account, Connector, Cursor, Instance, Page, Partition, Pass, Slice, Upstream
from syncd.nodes import Node, Walked, roots
from syncd.progress import Anew, Next, Wanted
from syncd.store import leases, parking, passes, registry
from syncd.store.hops import Connection
from syncd.store.leases import Effort, Lease
from syncd.store.passes import ActivePass, close_cursors
from syncd.store.statements import load
from syncd.unread import ALL, Range

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRINTS = {"s": {"row": "a", "version_rule": "sent"}}
WANTED = Wanted("full", "r", PRINTS, "1", 3600.0)


def known(connection: Connection, *accounts: str) -> list[int]:
    """Make an instance with accounts and one partition each known."""
    connector = Connector("c", "1", object, (), lambda *_: Upstream("http://x", ()))
    tenants = tuple(Account(name, None) for name in accounts or ("default",))
    registry.register_instance(connection, Instance("i", connector, None, tenants), now=NOW)
    parts = [Partition("i", each.name, "f") for each in tenants]
    return registry.register_partitions(connection, parts, now=NOW)


def claimed(connection: Connection, *, now: datetime = NOW, **narrowed: Any) -> Lease | None:
    asked: dict[str, Any] = {
        "free": 1,
        "lease_seconds": 30.0,
        "job": "j",
        "owner": uuid4(),
        "token": uuid4(),
    }
    found = leases.claim(connection, now=now, **asked | narrowed)
    return found[0] if found else None


def held(connection: Connection, **narrowed: Any) -> Lease:
    lease = claimed(connection, **narrowed)
    assert lease is not None
    return lease


def item(value: str, version: int | None = None) -> Cursor:
    return Cursor({"item": value}, kind="item", version=version)


def begun(
    connection: Connection, lease: Lease, *cursors: Cursor, now: datetime = NOW
) -> ActivePass:
    return passes.begin(
        connection,
        lease,
        Anew("full", None, None, "asked for"),
        answered=Pass("full", cursors),
        wanted=WANTED,
        nodes=roots(cursors),
        until=now,
        now=now,
    )


def walked(node: Node, *, empty: bool = False) -> Walked:
    return Walked(node, Page({"s": [] if empty else ["r"]}), NOW, ())


def close(connection: Connection, active: ActivePass, *cursors: Cursor) -> None:
    close_cursors(connection, active.id, [walked(node) for node in roots(cursors)], None)


def state(connection: Connection, table: str, column: str) -> list[Any]:
    rows = connection.execute(f"SELECT {column} AS it FROM syncd.{table} ORDER BY 1")
    return [row["it"] for row in rows]


def given_back(connection: Connection, lease: Lease, *, now: datetime = NOW, **other: Any) -> None:
    said: dict[str, Any] = {
        "status": "complete",
        "wait_seconds": 60.0,
        "failures": 0,
        "message": "",
    } | other
    leases.release(
        connection,
        lease,
        Next(**said),
        job="j",
        committed=True,
        effort=Effort(requests=3),
        error_class=None,
        now=now,
    )


# --- Partitions ---------------------------------------------------------------------------------


def test_partitions_are_known_once_as_they_are_now_and_in_the_order_asked_for(
    connection: Connection,
) -> None:
    (whole,) = known(connection)
    parts = [Partition("i", "default", "f"), Partition("i", "default", "f", Slice("a", {"x": 1}))]

    first = registry.register_partitions(connection, parts, now=NOW)
    again = registry.register_partitions(connection, parts[::-1], now=NOW)
    changed = Partition("i", "default", "f", Slice("a", {"x": 2}, priority=60))
    assert registry.register_partitions(connection, [changed], now=NOW) == first[1:]

    assert first[0] == whole
    assert again == first[::-1]
    row = connection.execute(
        "SELECT slice_settings, due_at - claim_at AS ahead FROM syncd.partition WHERE slice = 'a'"
    ).fetchone()
    assert row == {"slice_settings": {"x": 2}, "ahead": timedelta(seconds=60)}


def test_what_is_known_as_it_is_locks_no_row(connection: Connection, dsn: str) -> None:
    (whole,) = known(connection)
    connection.commit()
    with connect(dsn) as other:
        other.execute("SELECT 1 FROM syncd.partition FOR UPDATE")
        connection.execute("SET LOCAL lock_timeout = '1ms'")

        assert registry.register_partitions(connection, [Partition("i", "default", "f")]) == [whole]


# --- Claims -------------------------------------------------------------------------------------


def test_what_is_due_is_claimed_most_urgent_first(connection: Connection) -> None:
    known(connection)
    slices = [Slice("late", {}, 0), Slice("early", {}, 600)]
    parts = [Partition("i", "default", "g", part) for part in slices]
    registry.register_partitions(connection, parts, now=NOW)

    order = [held(connection).partition.slice.name for _ in range(3)]

    assert order == ["early", "", "late"]
    assert claimed(connection) is None


def test_a_lease_is_not_claimed_before_it_runs_out(connection: Connection) -> None:
    known(connection)
    first = held(connection)

    assert claimed(connection, now=NOW + timedelta(seconds=29)) is None
    second = held(connection, now=NOW + timedelta(seconds=30))
    assert second.epoch == first.epoch + 1


def test_a_partition_is_not_claimed_before_it_is_due_unless_asked(connection: Connection) -> None:
    known(connection)
    given_back(connection, held(connection))

    assert claimed(connection, now=NOW + timedelta(seconds=59)) is None
    assert claimed(connection, now=NOW + timedelta(seconds=59), early=True) is not None


def test_a_run_whose_lease_went_to_another_is_marked_lost(connection: Connection) -> None:
    known(connection)
    held(connection)
    held(connection, now=NOW + HOUR)

    assert state(connection, "run", "status") == ["lost", "running"]


def test_parked_accounts_and_partitions_are_not_claimed_until_resumed(
    connection: Connection,
) -> None:
    first, second = known(connection, "a", "b")
    given_back(connection, held(connection, ids=[first]), park_account="refused")
    given_back(connection, held(connection, ids=[second]), park_partition="broken")
    later = NOW + HOUR

    assert claimed(connection, now=later) is None
    assert {each.parked for each in leases.obstacles(connection, [first, second], now=later)} == {
        "refused",
        "broken",
    }
    assert parking.resume(connection, "i", "b", now=later) == 1
    assert held(connection, now=later).partition.account == "b"
    assert parking.resume(connection, "i", None, now=later) == 1
    assert held(connection, now=later).partition.account == "a"


def test_who_lost_the_lease_can_neither_commit_nor_give_back(connection: Connection) -> None:
    known(connection)
    lost = held(connection)
    held(connection, now=NOW + HOUR)

    for attempt in (
        lambda: leases.fence(connection, lost),
        lambda: leases.fence_alone(connection, lost),
        lambda: given_back(connection, lost),
    ):
        with pytest.raises(LeaseLost, match="no longer ours"):
            attempt()
    assert leases.renew(connection, [lost], lease_seconds=30.0, now=NOW) == {}


def test_renewals_write_no_index(connection: Connection) -> None:
    """Else each of them, every few seconds for every lease, would leave dead entries (P15)."""
    known(connection, "a")
    lease = held(connection)
    connection.commit()
    counted = "SELECT pg_stat_get_xact_tuples_hot_updated('syncd.partition'::regclass) AS n"

    for _ in range(5):
        assert leases.renew(connection, [lease], lease_seconds=60.0, now=NOW)

    row = connection.execute(counted).fetchone()
    assert row is not None
    assert row["n"] == 5


def test_an_expired_lease_of_ours_can_be_claimed_at_once(connection: Connection) -> None:
    known(connection)
    lease = held(connection)
    leases.expire(connection, lease, now=NOW)

    assert held(connection, now=NOW).epoch == 2


# --- Passes -------------------------------------------------------------------------------------


def test_a_pass_ends_only_when_its_frontier_is_empty(connection: Connection) -> None:
    known(connection)
    lease = held(connection)
    active = begun(connection, lease, Cursor("a"), Cursor("b"))
    close(connection, active, Cursor("a"))

    assert passes.complete(connection, lease, active.id, WANTED, now=NOW) is None
    close(connection, active, Cursor("b"))
    ending = passes.complete(connection, lease, active.id, WANTED, now=NOW)

    assert ending is not None
    assert (ending.ended.status, ending.watermark) == ("complete", NOW)
    assert state(connection, "partition", "watermark") == [NOW]
    assert state(connection, "partition", "row_fingerprints") == [PRINTS]


def test_a_cursor_is_closed_once(connection: Connection) -> None:
    known(connection)
    active = begun(connection, held(connection), Cursor("a"))
    close(connection, active, Cursor("a"))

    with pytest.raises(FrontierMoved, match="1 of 1 cursors"):
        close(connection, active, Cursor("a"))


def test_a_higher_version_opens_an_item_again_and_survives_a_late_close(
    connection: Connection,
) -> None:
    known(connection)
    active = begun(connection, held(connection), item("x", 1))

    passes.open_cursors(connection, active.id, roots([item("x", 3)]))
    close(connection, active, item("x", 1))
    still_open = passes.look(connection, active.id, most=10, now=NOW).nodes
    close(connection, active, item("x", 3))
    same = passes.open_cursors(connection, active.id, roots([item("x", 3)]))
    higher = passes.open_cursors(connection, active.id, roots([item("x", 4)]))

    assert [node.cursor.version for node in still_open] == [3]
    assert (same, len(higher)) == ([], 1)


def test_the_first_commit_may_lower_until_once(connection: Connection) -> None:
    known(connection)
    lease = held(connection)
    active = begun(connection, lease, Cursor("a"))
    count = load("pass")["count"]
    zero = dict.fromkeys(("pages", "records", "inserted", "updated", "unchanged", "stale"), 0)

    for date in (NOW - HOUR, NOW - 2 * HOUR):
        given = {"pass": active.id, "high": 0, "end": None, "date": date, "quarantined": 0, **zero}
        connection.execute(count, given)

    assert state(connection, "pass", "until") == [NOW - HOUR]


def test_an_upstream_clock_that_is_ahead_does_not_move_until(connection: Connection) -> None:
    known(connection)
    active = begun(connection, held(connection), Cursor("a"))
    zero = dict.fromkeys(("pages", "records", "inserted", "updated", "unchanged", "stale"), 0)
    given = {
        "pass": active.id,
        "high": 0,
        "end": None,
        "date": NOW + HOUR,
        "quarantined": 0,
        **zero,
    }

    connection.execute(load("pass")["count"], given)

    assert state(connection, "pass", "until") == [NOW]


def test_a_failed_pass_leaves_the_watermark_and_is_counted(connection: Connection) -> None:
    known(connection)
    lease = held(connection)
    active = begun(connection, lease, Cursor("a"))

    ending = passes.fail(connection, lease, active.id, "it broke", now=NOW)

    assert (ending.ended.status, ending.watermark) == ("failed", None)
    assert state(connection, "partition", "watermark") == [None]
    assert state(connection, "partition", "failed_passes") == [1]


def test_a_waiting_cursor_is_not_handed_out_before_its_time(connection: Connection) -> None:
    known(connection)
    lease = held(connection)
    active = begun(connection, lease, Cursor("a"))
    (node,) = roots([Cursor("a")])
    passes.fail_cursor(
        connection, lease, active.id, node, wait_seconds=10, give_up=False, error="e", now=NOW
    )

    early = passes.look(connection, active.id, most=10, now=NOW + timedelta(seconds=9))
    late = passes.look(connection, active.id, most=10, now=NOW + timedelta(seconds=10))

    assert early.nodes == ()
    assert [(n.key, seconds) for n, seconds in early.waiting] == [(node.key, 1.0)]
    assert passes.last_error(connection, active.id, node.key) == "e"
    assert [(n.attempts, n.failing_since) for n in late.nodes] == [(1, NOW)]


def test_debt_outlives_its_pass_and_is_walked_in_the_next_once_due(connection: Connection) -> None:
    known(connection)
    lease = held(connection)
    active = begun(connection, lease, item("good"), item("bad"))
    close(connection, active, item("good"))
    (bad,) = roots([item("bad")])
    passes.fail_cursor(
        connection, lease, active.id, bad, wait_seconds=900, give_up=True, error="e", now=NOW
    )
    ending = passes.complete(connection, lease, active.id, WANTED, now=NOW)
    soon = begun(connection, lease, item("good"), now=NOW + timedelta(seconds=1))
    too_early = passes.look(connection, soon.id, most=10, now=NOW + HOUR)
    later = begun(connection, lease, item("good"), item("bad"), now=NOW + HOUR)
    due = passes.look(connection, later.id, most=10, now=NOW + HOUR)

    assert ending is not None
    assert ending.ended.status == "partial"
    assert [node.cursor.value for node in too_early.nodes] == [{"item": "good"}]
    assert {(str(node.cursor.value), node.attempts) for node in due.nodes} == {
        ("{'item': 'good'}", 0),
        ("{'item': 'bad'}", 1),
    }


def test_closed_cursors_of_ended_passes_are_forgotten_and_debt_is_not(
    connection: Connection,
) -> None:
    known(connection)
    lease = held(connection)
    active = begun(connection, lease, item("good"), item("bad"))
    close(connection, active, item("good"))
    (bad,) = roots([item("bad")])
    passes.fail_cursor(
        connection, lease, active.id, bad, wait_seconds=900, give_up=True, error="e", now=NOW
    )
    assert passes.forget(connection, lease) == 0
    passes.complete(connection, lease, active.id, WANTED, now=NOW)

    assert passes.forget(connection, lease) == 1
    assert state(connection, "frontier", "state") == ["failed"]


def test_items_go_before_what_opens_others(connection: Connection) -> None:
    known(connection)
    active = begun(connection, held(connection), Cursor("a"), item("b"), Cursor("c"))

    nodes = passes.look(connection, active.id, most=10, now=NOW).nodes

    assert [node.cursor.value for node in nodes] == [{"item": "b"}, "a", "c"]


def test_the_deepest_go_first_and_those_of_one_page_in_its_order(connection: Connection) -> None:
    known(connection)
    active = begun(connection, held(connection), item("root"))
    made = [
        Node.of(item(f"{depth}-{ordinal}"), depth=depth, ordinal=ordinal)
        for depth in (1, 2)
        for ordinal in (1, 0)
    ]
    passes.open_cursors(connection, active.id, made)

    nodes = passes.look(connection, active.id, most=10, now=NOW).nodes

    assert [str(node) for node in nodes] == [
        str(Node.of(item(value), depth=0, ordinal=0))
        for value in ("2-0", "2-1", "1-0", "1-1", "root")
    ]
    assert [node.place for node in nodes] == sorted(node.place for node in nodes)


def test_looks_read_on_where_the_last_one_stopped(connection: Connection) -> None:
    known(connection)
    cursors = [item(str(n)) if n % 3 else Cursor(str(n)) for n in range(10)]
    active = begun(connection, held(connection), *cursors)
    whole = passes.look(connection, active.id, most=100, now=NOW)
    seen: list[Node] = []
    where: Range | None = ALL
    while where is not None:
        look = passes.look(connection, active.id, where, most=4, now=NOW)
        seen += look.nodes
        where = look.rest

    assert whole.rest is None
    assert seen == list(whole.nodes)
    assert len(seen) == 10


def test_an_item_that_is_opened_again_stands_where_it_was_named_last(
    connection: Connection,
) -> None:
    known(connection)
    active = begun(connection, held(connection), item("x", 1))
    close(connection, active, item("x", 1))
    again = Node.of(item("x", 2), depth=3, ordinal=7)

    passes.open_cursors(connection, active.id, [again])

    (node,) = passes.look(connection, active.id, most=10, now=NOW).nodes
    assert node == again


def test_a_page_past_the_end_marker_is_closed_with_it(connection: Connection) -> None:
    known(connection)
    pages = [Cursor({}, number=number) for number in (1, 2, 3, 4)]
    active = begun(connection, held(connection), *pages)

    close_cursors(connection, active.id, [walked(roots(pages)[1])], 2)

    left = passes.look(connection, active.id, most=10, now=NOW).nodes
    assert [node.cursor.number for node in left] == [1]


def test_an_empty_page_below_one_with_records_is_opened_again_at_the_end(
    connection: Connection,
) -> None:
    known(connection)
    lease = held(connection)
    pages = [Cursor({}, number=number) for number in (1, 2, 3)]
    active = begun(connection, lease, *pages)
    first, second, third, fourth = roots(pages)
    close_cursors(connection, active.id, [walked(first), walked(second, empty=True)], None)
    close_cursors(connection, active.id, [walked(third), walked(fourth, empty=True)], None)
    connection.execute("UPDATE syncd.pass SET high = 3")

    assert passes.complete(connection, lease, active.id, WANTED, now=NOW) is None
    left = passes.look(connection, active.id, most=10, now=NOW).nodes
    assert [node.cursor.number for node in left] == [2]


def test_history_counts_what_a_run_cost(connection: Connection) -> None:
    known(connection)
    given_back(connection, held(connection))

    (run,) = registry.recent_runs(connection)

    assert (run["status"], run["requests"], run["job"]) == ("complete", 3, "j")
    assert registry.recent_runs(connection, job="other") == []
