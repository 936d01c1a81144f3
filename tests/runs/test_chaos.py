"""Daemons and a nemesis: killed, stopped, drained, cut off, their server restarted (P38-P40).

When it is quiet again the tables are what the upstream is, and nothing is left behind. The form in
`make test` is short; `make test-chaos` is the long one. The seed is told when it fails.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import attrs
import database_facts as facts
import pytest
import trio
from fault_proxy import FaultProxy, faulty
from mall import Mall, configuration
from own_server import Mode, OwnServer, own_server
from processes import Program, Programs, seen

SECONDS = float(os.environ.get("SYNCD_CHAOS_SECONDS", "20"))
DAEMONS = int(os.environ.get("SYNCD_CHAOS_DAEMONS", "3"))
STORES = int(os.environ.get("SYNCD_CHAOS_STORES", "24"))
SEED = int(os.environ.get("SYNCD_CHAOS_SEED", "0")) or Random().randrange(1, 10**6)

LEASE_SECONDS = float(os.environ.get("SYNCD_CHAOS_LEASE_SECONDS", "2"))

STRIKES_EVERY_SECONDS = 2.0
STOPPED_SECONDS = 2 * LEASE_SECONDS  # others take over
CUT_OFF_SECONDS = 3.0
LOOK_SECONDS = 1.0
# Until everything is as it should be: leases and backoffs pass, and two rounds of all stores.
QUIET_SECONDS = 120.0 + 0.5 * STORES

# A commit of a run that history knows as lost would be that of a zombie.
AUDIT = """
    CREATE TABLE public.zombie (run bigint, pages bigint);
    CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.status = 'lost' AND NEW.pages <> OLD.pages THEN
            INSERT INTO public.zombie VALUES (NEW.id, NEW.pages);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER audit BEFORE UPDATE ON syncd.run
        FOR EACH ROW EXECUTE FUNCTION public.audit();
"""


# What an operator would ask when it does not go on.
STANDS = (
    "SELECT * FROM syncd.job",
    "SELECT * FROM syncd.round ORDER BY id DESC LIMIT 3",
    """SELECT verdict, count(*) FROM syncd.turn t JOIN syncd.round r ON r.id = t.round_id
       WHERE r.status = 'running' GROUP BY verdict""",
    """SELECT state, job, token IS NULL AS free, due_at < syncd.clock() AS due, count(*),
              min(due_at), max(lease_until), max(failures), min(last_error)
       FROM syncd.partition GROUP BY 1, 2, 3, 4""",
    "SELECT name, state FROM syncd.account WHERE state <> 'ready' LIMIT 3",
)


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_server({"fsync": "off", "max_connections": "80"}) as running:
        yield running


@attrs.define
class Arena:
    """The daemons, and what happens to them."""

    server: OwnServer
    dsn: str
    proxy: FaultProxy
    programs: Programs
    config: Path
    random: Random
    nursery: trio.Nursery
    alive: list[Program] = attrs.field(factory=list)
    stopped: list[Program] = attrs.field(factory=list)
    drained: list[Program] = attrs.field(factory=list)
    struck: list[str] = attrs.field(factory=list)

    def start_one(self) -> None:
        self.alive.append(self.programs.start(self.config, serves=True))

    async def strike(self) -> None:
        strikes: list[Callable[[], Awaitable[None]]] = [
            self.kill,
            self.stop,
            self.drain,
            self.behead,
            self.restart,
            self.cut_off,
        ]
        # Each kind once, before chance decides.
        strike = strikes[len(self.struck)] if len(self.struck) < 6 else self.random.choice(strikes)
        self.struck.append(strike.__name__)
        await strike()

    def _victim(self) -> Program:
        if len(self.alive) == 1:
            self.start_one()  # one at least is left to take over
        return self.random.choice(self.alive)

    async def kill(self) -> None:
        victim = self._victim()
        victim.send(signal.SIGKILL)
        self.alive.remove(victim)
        self.start_one()

    async def stop(self) -> None:
        """Stop one while the attack goes on: nothing else befalls it until it goes on, too."""
        victim = self._victim()
        victim.send(signal.SIGSTOP)
        self.alive.remove(victim)
        self.stopped.append(victim)
        self.nursery.start_soon(self._let_go_on, victim)

    async def _let_go_on(self, victim: Program) -> None:
        await trio.sleep(STOPPED_SECONDS)
        victim.send(signal.SIGCONT)
        self.stopped.remove(victim)
        self.alive.append(victim)

    async def drain(self) -> None:
        victim = self._victim()
        victim.send(signal.SIGTERM)
        self.alive.remove(victim)
        self.drained.append(victim)
        self.start_one()

    async def behead(self) -> None:
        facts.rows(
            self.dsn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'syncd'",
        )

    async def restart(self) -> None:
        mode: Mode = self.random.choice(["fast", "immediate"])
        await trio.to_thread.run_sync(self.server.restart, mode)

    async def cut_off(self) -> None:
        self.proxy.silence("up", "down")
        await trio.sleep(CUT_OFF_SECONDS)
        self.proxy.heal()

    def said(self) -> str:
        told = [program.said()[-1500:] for program in (*self.alive, *self.drained)]
        stands = "\n".join(str(facts.rows(self.dsn, question)) for question in STANDS)
        struck = " ".join(self.struck)
        return f"seed {SEED}, struck: {struck}\n{stands}\n" + "\n---\n".join(told)


def stored(dsn: str) -> set[tuple[str, int, int]]:
    found = facts.rows(dsn, "SELECT account_id, number, sum FROM mall.orders")
    return {(row["account_id"], row["number"], row["sum"]) for row in found}


@pytest.mark.slow
@pytest.mark.own_server
async def test_after_every_blow_the_tables_are_what_the_upstream_is(
    server: OwnServer, programs: Programs, tmp_path: Path
) -> None:
    dsn = server.database()
    facts.execute(dsn, AUDIT)
    mall = Mall(STORES, orders=8)
    mall.pause_seconds = 0.02
    random = Random(SEED)
    async with mall.serve() as url, faulty(dsn) as proxy:
        lease = f"{LEASE_SECONDS:g}s"
        config = configuration(
            tmp_path, proxy.dsn, url, stores=list(mall.sold), lease=lease, job='every = "2s"'
        )
        async with trio.open_nursery() as nursery:  # until the last one that was stopped goes on
            arena = Arena(server, dsn, proxy, programs, config, random, nursery)
            for _ in range(DAEMONS):
                arena.start_one()
            await seen("the first rows", lambda: _there(dsn), told=arena.said)
            over_at = trio.current_time() + SECONDS
            while trio.current_time() < over_at:
                for store in random.sample(sorted(mall.sold), k=max(1, STORES // 10)):
                    mall.sold[store] += 1
                await arena.strike()
                await trio.sleep(STRIKES_EVERY_SECONDS)  # the pace of the attack

        with trio.move_on_after(QUIET_SECONDS):
            # Seldom, and in a thread: the upstream and the proxy live in this process.
            while await trio.to_thread.run_sync(stored, dsn) != mall.true_rows():  # noqa: ASYNC110
                await trio.sleep(LOOK_SECONDS)
        assert stored(dsn) == mall.true_rows(), arena.said()
        for daemon in arena.alive:
            daemon.send(signal.SIGTERM)
        for daemon in (*arena.alive, *arena.drained):
            assert await daemon.ended(deadline_seconds=60) == 0, arena.said()

    assert len(arena.struck) >= 6, arena.struck
    await facts.left_alone(dsn)
    check(dsn, arena)


def _there(dsn: str) -> Any:
    return facts.rows(dsn, "SELECT to_regclass('mall.orders') AS it")[0]["it"] and stored(dsn)


def check(dsn: str, arena: Arena) -> None:
    """Look for what must not be: zombies, leases of the dead, epochs that go back, connections."""
    said = arena.said()
    assert facts.rows(dsn, "SELECT * FROM public.zombie") == [], said
    held = "SELECT id FROM syncd.partition WHERE lease_until > syncd.clock()"
    assert facts.rows(dsn, held) == [], said
    backwards = """
        SELECT 1 FROM (
            SELECT epoch, lag(epoch) OVER (
                PARTITION BY partition_id ORDER BY started_at, id) AS before
            FROM syncd.run) AS r
        WHERE epoch <= before
    """
    assert facts.rows(dsn, backwards) == [], said
    twice = "SELECT cursor_key FROM syncd.frontier GROUP BY pass_id, cursor_key HAVING count(*) > 1"
    assert facts.rows(dsn, twice) == [], said
    left = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'syncd'"
    )
    assert facts.rows(dsn, left) == [], said
    running = facts.rows(dsn, "SELECT id FROM syncd.round WHERE status = 'running'")
    assert len(running) <= 1, said
