"""Daemons keep jobs on their schedules, together, whatever happens to one of them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import database_facts as facts
from mall import Mall, configuration
from processes import Program, Programs, seen

from syncd.store.hops import Connection


def stored(dsn: str) -> set[tuple[str, int, int]]:
    found = facts.rows(dsn, "SELECT account_id, number, sum FROM mall.orders")
    return {(row["account_id"], row["number"], row["sum"]) for row in found}


def rounds(dsn: str) -> list[dict[str, Any]]:
    return facts.rows(dsn, "SELECT * FROM syncd.round ORDER BY id")


async def finished(dsn: str, times: int, *, told: Program) -> list[dict[str, Any]]:
    """Wait for the end of so many rounds."""

    def look() -> list[dict[str, Any]] | None:
        found = [each for each in rounds(dsn) if each["status"] != "running"]
        return found if len(found) >= times else None

    return await seen(f"the end of {times} rounds", look, told=told.said)


async def stopped(*daemons: Program) -> None:
    for daemon in daemons:
        daemon.send(signal.SIGTERM)
    for daemon in daemons:
        assert await daemon.ended() == 0, daemon.said()


async def test_a_round_gives_every_partition_a_turn_within_the_free_slots(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(20)
    mall.pause_seconds = 0.02
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold))
        daemon = programs.start(config, serves=True)
        (first,) = await finished(dsn, 1, told=daemon)

        assert stored(dsn) == mall.true_rows()
        assert (first["trigger"], first["status"]) == ("schedule", "complete")
        assert (first["partitions"], first["complete"]) == (20, 20)
        assert mall.most_at_once <= 4
        assert set(mall.asked.values()) == {1}
        assert facts.rows(dsn, "SELECT 1 FROM syncd.turn") == []
        await stopped(daemon)
    held = facts.rows(dsn, "SELECT id FROM syncd.partition WHERE token IS NOT NULL")
    assert held == []


async def test_two_daemons_share_a_round_and_none_does_twice_what_the_other_did(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(30)
    mall.pause_seconds = 0.05
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold))
        daemons = [programs.start(config, serves=True) for _ in range(2)]
        await finished(dsn, 1, told=daemons[0])

        assert stored(dsn) == mall.true_rows()
        assert set(mall.asked.values()) == {1}
        owners = facts.rows(dsn, "SELECT owner FROM syncd.run GROUP BY owner")
        assert len(owners) == 2, "both of them worked"
        assert len(rounds(dsn)) == 1
        await stopped(*daemons)


async def test_what_a_killed_daemon_held_goes_on_in_another_when_its_lease_has_run_out(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(12, orders=40)
    mall.pause_seconds = 0.2
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold), lease="2s")
        dying = programs.start(config, serves=True)
        await dying.event("batch.committed", times=2)
        dying.send(signal.SIGKILL)
        assert await dying.ended() == -signal.SIGKILL
        heir = programs.start(config, serves=True)
        mall.pause_seconds = 0.0
        (first,) = await finished(dsn, 1, told=heir)

        assert first["status"] == "complete"
        assert stored(dsn) == mall.true_rows()
        lost = facts.rows(dsn, "SELECT 1 FROM syncd.run WHERE status = 'lost'")
        assert 1 <= len(lost) <= 4, "as many as it had slots"
        await stopped(heir)


async def test_one_closed_store_makes_a_round_partial_and_many_make_it_fail(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(20)
    mall.closed = {"store-003"}
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold))
        daemon = programs.start(config, serves=True)
        (first,) = await finished(dsn, 1, told=daemon)
        assert (first["status"], first["complete"]) == ("partial", 19)

        mall.closed = {f"store-{n:03}" for n in range(10, 13)} | {"store-003"}
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        *_, second = await finished(dsn, 2, told=daemon)
        assert (second["trigger"], second["status"]) == ("trigger", "failed")
        assert second["complete"] == 16

        mall.closed = set()
        facts.execute(dsn, "UPDATE syncd.partition SET due_at = syncd.clock(), claim_at = due_at")
        await seen(
            "the rows of all stores", lambda: stored(dsn) == mall.true_rows(), told=daemon.said
        )
        logs = facts.rows(
            dsn,
            "SELECT job_name, status, message, duration_ms / 1000 AS seconds, run_time"
            " FROM syncd.sync_logs WHERE store_code IS NULL ORDER BY run_time DESC LIMIT 10",
        )
        assert [each["status"] for each in logs] == ["failed", "partial"]
        assert {each["job_name"] for each in logs} == {"orders"}
        await stopped(daemon)


async def test_a_refused_key_parks_its_account_and_holds_no_round(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(5)
    mall.locked = {"store-001"}
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold))
        daemon = programs.start(config, serves=True)
        await finished(dsn, 1, told=daemon)
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        *_, second = await finished(dsn, 2, told=daemon)

        assert second["message"] == "4 of 5 complete; 1 parked"
        assert mall.asked["store-001", 1] == 1, "a refused key is not tried again"
        await stopped(daemon)


async def test_jobs_are_paused_triggered_and_cancelled_through_the_database(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(8, orders=100)
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold), job='every = "1s"')
        daemon = programs.start(config, serves=True)
        await finished(dsn, 2, told=daemon)
        facts.execute(dsn, "UPDATE syncd.job SET state = 'paused'")
        (skipped, *_) = await daemon.event("round.skipped", times=3)
        assert "paused" in skipped["reason"] or "still runs" in skipped["reason"]
        begun = len(rounds(dsn))

        mall.pause_seconds = 0.5  # 20 pages a store: ten seconds
        facts.execute(dsn, "UPDATE syncd.job SET state = 'ready', next_at = NULL")
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        running = await seen(
            "a running round",
            lambda: [each for each in rounds(dsn)[begun:] if each["status"] == "running"],
            told=daemon.said,
        )
        await seen(
            "a pass under way",
            lambda: facts.rows(dsn, "SELECT 1 FROM syncd.pass WHERE state = 'open' AND pages > 0"),
            told=daemon.said,
        )
        facts.execute(dsn, "UPDATE syncd.job SET cancelled = true, state = 'paused'")
        *_, cut = await finished(dsn, begun + 1, told=daemon)

        assert (cut["id"], cut["status"]) == (running[0]["id"], "cancelled")
        await seen(
            "the end of its runs",
            lambda: not facts.rows(dsn, "SELECT 1 FROM syncd.run WHERE status = 'running'"),
            told=daemon.said,
        )
        assert "open" in facts.passes(dsn), "the next round goes on with them"
        await stopped(daemon)


async def test_a_job_comes_after_another_has_ended_well(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(3)
    async with mall.serve() as url:
        more = '[jobs.sums]\nconnector = "mall"\nmode = "full"\nafter = ["orders"]\n'
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold), more=more)
        daemon = programs.start(config, serves=True)
        found = await finished(dsn, 2, told=daemon)

        assert [(each["job"], each["trigger"]) for each in found] == [
            ("orders", "schedule"),
            ("sums", "after"),
        ]
        assert found[1]["started_at"] >= found[0]["finished_at"]
        await stopped(daemon)


async def test_sighup_takes_a_configuration_over_all_of_it_or_nothing(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(6)
    stores = list(mall.sold)
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=stores[:3])
        daemon = programs.start(config, serves=True)
        await finished(dsn, 1, told=daemon)

        sound = config.read_text()
        config.write_text(sound + "[jobs.broken]\nconnector = 'nobody'\n")
        daemon.send(signal.SIGHUP)
        (rejected,) = await daemon.event("config.rejected")
        assert "nobody" in rejected["error"]
        config.write_text(sound.replace('lease = "1h"', 'lease = "30m"'))
        daemon.send(signal.SIGHUP)
        *_, rejected = await daemon.event("config.rejected", times=2)
        assert "restart syncd" in rejected["error"]

        configuration(tmp_path, dsn, url, stores=stores)
        daemon.send(signal.SIGHUP)
        await daemon.event("config.reloaded")
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        *_, second = await finished(dsn, 2, told=daemon)
        assert (second["partitions"], second["status"]) == (6, "complete")
        assert stored(dsn) == mall.true_rows()
        await stopped(daemon)


async def test_a_drain_of_a_busy_daemon_commits_gives_back_and_ends_with_zero(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(10, orders=200)
    mall.pause_seconds = 0.1
    async with mall.serve() as url:
        config = configuration(tmp_path, dsn, url, stores=list(mall.sold))
        daemon = programs.start(config, serves=True)
        await daemon.event("batch.committed", times=4)

        await stopped(daemon)

        with facts.connect(dsn) as connection:
            assert _held(connection) == 0
        assert rounds(dsn)[0]["status"] == "running", "whoever comes next goes on with it"
        mall.pause_seconds = 0.0
        heir = programs.start(config, serves=True)
        (first,) = await finished(dsn, 1, told=heir)
        assert first["status"] == "complete"
        assert stored(dsn) == mall.true_rows()
        await stopped(heir)


def _held(connection: Connection) -> int:
    found = connection.execute("SELECT count(*) AS n FROM syncd.partition WHERE token IS NOT NULL")
    row = found.fetchone()
    assert row is not None
    return int(row["n"])
