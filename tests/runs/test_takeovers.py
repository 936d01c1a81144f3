"""What a daemon leaves behind is soon another's: after its lease, after a drain at once (P40)."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import database_facts as facts
from mall import Mall, configuration
from processes import Program, Programs, Stalls, seen

from syncd.scheduler import LOOK_SECONDS

LEASE_SECONDS = 2.0
CLAIM_SECONDS = 1.0  # at most, beside others: the claims of a look, and noting the runs


def moment(dsn: str) -> datetime:
    (row,) = facts.rows(dsn, "SELECT syncd.clock() AS now")
    found: datetime = row["now"]
    return found


def runs(dsn: str, status: str = "running") -> list[dict[str, Any]]:
    found = "SELECT partition_id, owner, started_at FROM syncd.run WHERE status = %s ORDER BY id"
    return facts.rows(dsn, found, status)


async def owned(dsn: str, number: int, *, by: int, daemons: Sequence[Program]) -> list[Any]:
    """Wait until so many runs are at work, in so many processes."""

    def look() -> list[Any] | None:
        found = runs(dsn)
        return found if (len(found), len({r["owner"] for r in found})) == (number, by) else None

    told = "\n".join(daemon.said()[-2000:] for daemon in daemons)
    return await seen(f"{number} runs in {by} processes", look, told=lambda: told)


async def test_what_is_left_is_taken_within_lease_and_look_and_at_once_after_a_drain(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(4, orders=100_000)
    mall.pause_seconds = 0.1
    async with mall.serve() as url:
        lease = f"{LEASE_SECONDS:g}s"
        stores, seldom = list(mall.sold), 'cron = "0 0 29 2 *"'
        config = configuration(tmp_path, dsn, url, stores=stores, lease=lease, job=seldom)
        dying, other = (programs.start(config, serves=True) for _ in range(2))
        for daemon in (dying, other):  # who comes late finds nothing left of a round
            await daemon.event("daemon.ready")
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        held = await owned(dsn, 4, by=2, daemons=[dying, other])
        stalls = Stalls(other.pid)
        with stalls.measured():
            dying.send(signal.SIGKILL)
            assert await dying.ended() == -signal.SIGKILL
            killed_at = moment(dsn)
            taken = await owned(dsn, 4, by=1, daemons=[other])
        waited = max((run["started_at"] - killed_at).total_seconds() for run in taken)
        assert {run["owner"] for run in taken} < {run["owner"] for run in held}
        assert len(runs(dsn, "lost")) == 2, "two slots of four: they had shared the round"
        assert waited <= LEASE_SECONDS + LOOK_SECONDS + CLAIM_SECONDS + stalls.seconds

        heir = programs.start(config, serves=True)
        await heir.event("daemon.ready")
        stalls = Stalls(heir.pid)
        with stalls.measured():
            other.send(signal.SIGTERM)
            assert await other.ended() == 0, other.said()
            drained_at = moment(dsn)
            taken = await owned(dsn, 4, by=1, daemons=[heir])
        waited = max((run["started_at"] - drained_at).total_seconds() for run in taken)
        assert len(runs(dsn, "drained")) == 4
        assert waited <= LOOK_SECONDS + CLAIM_SECONDS + stalls.seconds
        heir.send(signal.SIGKILL)
