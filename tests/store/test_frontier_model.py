"""The frontier against the real SQL: writer threads, crashes, takeovers, late renewals.

The laws are in `World.check`: no page lost, each cursor walked once per pass, the pass of a finite
feed ends, no commit under a superseded lease. Each mutant below removes one safety line, and the
same laws must turn red.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import psycopg
import pytest
from frontier_world import Feed, World, random_feed

from syncd import frontier
from syncd.store import cursors, leases

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("seed", range(10))
def test_a_finite_feed_is_walked_once_whatever_crashes(
    dsn: str, seed: int, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(frontier, "IN_MEMORY_MAX", 4)  # the rest is read from the table
    world = World(dsn, random_feed(Random(seed)), seed)

    world.run(seconds=20)

    world.check()


def test_renewals_do_not_wait_for_commits(dsn: str) -> None:
    assert renews_beside_a_commit(dsn)


def renews_beside_a_commit(dsn: str) -> bool:
    """Hold a commit open under a lease, and tell whether the lease can be renewed meanwhile."""
    world = World(dsn, CYCLE, 1)
    daemon = world.daemons[0]
    with world.connect() as committing, world.connect() as renewing:
        lease = daemon.claim(committing, lease_seconds=60)
        assert lease is not None
        leases.fence(committing, lease)
        renewing.execute(
            "SET lock_timeout = '200ms'"
        )  # counts waiting for locks, not a slow machine
        try:
            return bool(leases.renew(renewing, [lease], lease_seconds=60))
        except psycopg.errors.LockNotAvailable:
            return False


# --- Mutants --------------------------------------------------------------------------------------


def forget_closed_cursors(patch: Patch) -> None:
    text = cursors._FRONTIER["close_cursors"]
    start = text.index("UPDATE syncd.frontier f")
    forgetful = (
        "DELETE FROM syncd.frontier f USING held"
        " WHERE f.pass_id = %(pass)s AND f.cursor_key = held.cursor_key RETURNING held.fetched"
    )
    patch.setitem(cursors._FRONTIER, "close_cursors", text[:start] + forgetful)


def without_both_fence_guards(patch: Patch) -> None:
    patch.setitem(leases._SQL, "fence", "SELECT 1 AS ours")
    patch.setitem(leases._SQL, "fence_alone", "SELECT 0 AS failed_passes")


def share_instead_of_key_share(patch: Patch) -> None:
    text = leases._SQL["fence"].replace("FOR KEY SHARE", "FOR SHARE")
    assert "FOR SHARE" in text
    patch.setitem(leases._SQL, "fence", text)


def goes_red(worlds: Callable[[int], World], *, tries: int, seconds: float) -> bool:
    """Return whether the laws catch a mutant within a few worlds."""
    for seed in range(tries):
        world = worlds(seed)
        try:
            world.run(seconds)
            world.check()
        except (AssertionError, psycopg.Error):
            return True
    return False


def fresh(dsn: str) -> str:
    """Empty the database, so that another world can begin in it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE syncd.instance CASCADE")
        connection.execute("DROP TABLE IF EXISTS audit")
    return dsn


CYCLE = Feed({0: (1, 2), 1: (2, 0), 2: (3, 0), 3: (1, 4), 4: (0, 5), 5: (2,)})
LYING = Feed({}, numbered=14, false_empty=frozenset({4, 8, 12}))
FAN = Feed({0: tuple(range(1, 12))}, items=frozenset(range(1, 12)))


def test_mutant_that_forgets_closed_cursors_is_caught(dsn: str, monkeypatch: Patch) -> None:
    forget_closed_cursors(monkeypatch)

    def world(seed: int) -> World:
        return World(fresh(dsn), CYCLE, seed)

    assert goes_red(world, tries=3, seconds=4)


def test_mutant_without_fence_guards_is_caught(dsn: str, monkeypatch: Patch) -> None:
    without_both_fence_guards(monkeypatch)

    def world(seed: int) -> World:
        made = World(fresh(dsn), FAN, seed)
        made.stall_share = 0.3
        return made

    assert goes_red(world, tries=24, seconds=6)  # a matter of chance: mostly one of the first


def test_mutant_that_locks_for_share_is_caught(dsn: str, monkeypatch: Patch) -> None:
    share_instead_of_key_share(monkeypatch)

    assert not renews_beside_a_commit(dsn)


def test_mutant_that_completes_in_a_writer_is_caught(dsn: str, monkeypatch: Patch) -> None:
    def world(seed: int) -> World:
        made = World(fresh(dsn), FAN, seed, daemons=1)
        made.crash_share, made.stall_share = 0.0, 0.2
        made.completes_in_a_writer = True
        return made

    assert goes_red(world, tries=6, seconds=4)


def test_mutant_that_takes_an_empty_page_for_the_end_is_caught(dsn: str) -> None:
    def world(seed: int) -> World:
        made = World(fresh(dsn), LYING, seed)
        made.takes_an_empty_page_for_the_end = True
        return made

    assert goes_red(world, tries=9, seconds=10)
