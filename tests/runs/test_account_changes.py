"""Accounts of the table join and leave a running daemon; whom it does not concern goes on."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import database_facts as facts
import trio
from mall import CONNECTOR as MALL
from mall import Mall, configuration
from processes import DEADLINE_SECONDS, Programs, seen
from ticket_desk import Desk, Office

from syncd.accounts import Books, Taken, take
from syncd.building import outfitted
from syncd.config import read, structure
from syncd.daemon import Process, Root
from syncd.events import AccountInvalid, AccountsChanged, JobHindered, RoundFinished
from syncd.following import Following
from syncd.model import Partition, Secret
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.progress import Standing
from syncd.serving import generation
from syncd.store import accounts as stored
from syncd.store import rounds
from syncd.store.accounts import Sealed
from syncd.store.leases import Lease
from syncd.vault import Vault, new_key

LOOK_SECONDS = 0.05
KEY = new_key().reveal()


@attrs.frozen
class Daemon:
    """A daemon that runs in this process, and what is done to its accounts beside it."""

    office: Office
    process: Process

    @property
    def books(self) -> Books:
        config = self.process.config
        return Books.of(config, config.instances["desk"], self.process.vault)

    async def take(self, **tokens: str) -> Taken:
        rows = [self.books.sealed(name, {"token": token}) for name, token in tokens.items()]
        fine = [row for row in rows if isinstance(row, Sealed)]
        return await self.process.hops.run(take, self.books, fine)

    async def told(self, kind: type[Any], times: int = 1) -> list[Any]:
        def look() -> list[Any] | None:
            found = [event for event in self.office.events if isinstance(event, kind)]
            return found if len(found) >= times else None

        return await seen(kind.name, look, told=lambda: repr(self.office.events[-20:]))

    async def round(self, times: int) -> RoundFinished:
        """Ask for a round, and wait for its end."""
        await self.process.hops.run(rounds.ask, "desk")
        finished: RoundFinished = (await self.told(RoundFinished, times))[-1]
        return finished

    def rows(self, query: str) -> list[dict[str, Any]]:
        return facts.rows(self.office.dsn, query)

    def accounts(self) -> set[str]:
        return {each["account_id"] for each in self.rows("SELECT account_id FROM desk.tickets")}


@asynccontextmanager
async def daemon(dsn: str, desk: Desk, *tokens: str) -> AsyncIterator[Daemon]:
    """Keep the desk's job in this process; its rounds are asked for."""
    async with desk.serve() as url, trio.open_nursery() as nursery:
        office = Office(dsn, desk, url, more=f'[vault]\nkeys = ["{KEY}"]\n')
        observer = Observer()
        observer.listen(office.events.append)
        begun: list[Process] = []
        over = trio.Event()

        async def main(process: Process) -> None:
            async with trio.open_nursery() as generations:
                scheduler = await generations.start(generation, process, LOOK_SECONDS)
                begun.append(process)
                await over.wait()
                scheduler.retire()

        root = Root(office.config(*tokens), Plugins({"desk": office.plugin}), observer)
        with trio.fail_after(2 * DEADLINE_SECONDS):
            nursery.start_soon(root.run, main)
            await seen("the daemon's start", lambda: begun)
            yield Daemon(office, begun[0])
            over.set()


async def test_accounts_of_the_table_join_change_and_leave_a_running_daemon(dsn: str) -> None:
    desk = Desk({0: ([1, 2, 3], None)})
    async with daemon(dsn, desk) as kept:
        first = await kept.round(1)
        (hindered,) = await kept.told(JobHindered)
        assert (first.partitions, "syncd accounts add desk" in hindered.error) == (0, True)

        await kept.take(north="n-token", south="s-token")
        (added,) = await kept.told(AccountsChanged)
        assert (added.added, added.removed, added.changed) == (2, 0, 0)
        second = await kept.round(2)
        assert (second.partitions, second.status) == (2, "complete")
        assert kept.accounts() == {"north", "south"}

        await kept.take(north="n-token", south="another-token")
        *_, changed = await kept.told(AccountsChanged, 2)
        assert (changed.added, changed.removed, changed.changed) == (0, 0, 1)
        await kept.process.hops.run(stored.remove, "desk", ["north"])
        *_, removed = await kept.told(AccountsChanged, 3)
        assert (removed.added, removed.removed, removed.changed) == (0, 1, 0)
        third = await kept.round(3)
        assert (third.partitions, third.status) == (1, "complete")
        assert kept.accounts() == {"north", "south"}, "rows of a removed account stay"
        assert any(each.startswith("another-token") for each in desk.asked)
        assert sum(each.startswith("n-token") for each in desk.asked) == 4, "walked once"


async def test_a_disabled_account_commits_what_it_has_and_nobody_else_is_disturbed(
    dsn: str,
) -> None:
    desk = Desk({0: (range(1, 41), None)})
    desk.gate = trio.Event()
    async with daemon(dsn, desk) as kept:
        await kept.take(north="n-token", south="s-token")
        await kept.told(AccountsChanged)
        await kept.process.hops.run(rounds.ask, "desk")
        open_pages = (
            "SELECT account, p.pages FROM syncd.pass p JOIN syncd.partition q"
            " ON q.id = p.partition_id WHERE p.state = 'open' AND p.pages > 0"
        )
        await seen("both passes under way", lambda: len(kept.rows(open_pages)) == 2)

        await kept.process.hops.run(stored.disable, "desk", ["south"])
        await kept.told(AccountsChanged, 2)
        desk.gate.set()
        (finished,) = await kept.told(RoundFinished)
        # The round does not wait for the run of who is no part of it any more.
        under_way = "SELECT FROM syncd.run WHERE status = 'running'"
        await seen("the end of both runs", lambda: not kept.rows(under_way))

        runs = kept.rows(
            "SELECT q.account, r.status FROM syncd.run r JOIN syncd.partition q"
            " ON q.id = r.partition_id ORDER BY 1"
        )
        assert [(run["account"], run["status"]) for run in runs] == [
            ("north", "complete"),
            ("south", "drained"),
        ]
        assert (finished.status, finished.message) == ("complete", "1 of 1 complete")
        assert max(desk.asked.values()) == 1, "no page was fetched again"
        south = "SELECT count(*) AS n FROM desk.tickets WHERE account_id = 'south'"
        (half,) = kept.rows(south)
        assert 0 < half["n"] < 40, "what was in flight is committed, and nothing else asked for"
        assert kept.rows("SELECT 1 FROM syncd.partition WHERE job IS NOT NULL") == []

        await kept.process.hops.run(stored.enable, "desk", ["south"])
        await kept.told(AccountsChanged, 3)
        second = await kept.round(2)
        assert second.status == "complete"
        assert kept.rows(south) == [{"n": 40}], "it goes on where it stood"


async def test_an_account_that_cannot_be_opened_stands_alone_until_it_is_mended(dsn: str) -> None:
    async with daemon(dsn, Desk({0: ([1], None)}), "fixed") as kept:
        strange = Books(kept.books.reader, Vault([new_key()]))
        row = strange.sealed("south", {"token": "s-token"})
        assert isinstance(row, Sealed)
        await kept.process.hops.run(take, strange, [row])
        (invalid,) = await kept.told(AccountInvalid)
        assert (invalid.account, "no key opens the secret" in invalid.error) == ("south", True)
        first = await kept.round(1)
        assert (first.partitions, first.status) == (1, "complete")

        await kept.take(south="s-token", FIXED="not-this-one")
        await kept.told(AccountsChanged)
        second = await kept.round(2)
        assert (second.partitions, second.status) == (2, "complete")
        assert kept.accounts() == {"fixed", "south"}
        assert not any("not-this-one" in each for each in kept.office.desk.asked), "it wins"


async def test_whoever_has_not_heard_of_an_account_asks_before_a_turn_is_lost(dsn: str) -> None:
    desk = Desk({0: ([1], None)})
    async with daemon(dsn, desk, "fixed") as kept:
        process = kept.process
        job = process.config.jobs["desk"]
        async with outfitted(process, job, patience_seconds=1.0) as outfit:
            following = Following(process, {"desk": outfit})
            fixed = outfit.places["fixed", "tickets"].tenant
            await kept.take(south="s-token")

            place = await following.place(outfit, leased("south"))

            assert place is not None
            assert place.tenant.account.settings.token == Secret("s-token")
            assert await following.place(outfit, leased("nobody")) is None
            assert outfit.places["fixed", "tickets"].tenant is fixed, "its client is the same"


async def test_daemons_follow_together_and_keep_to_their_round(
    dsn: str, programs: Programs, tmp_path: Path
) -> None:
    mall = Mall(12, orders=20)
    mall.gate = trio.Event()
    stores = list(mall.sold)
    async with mall.serve() as url:
        file = configuration(tmp_path, dsn, url, stores=stores[:6])
        config = structure(read(file), {"mall": MALL}, environment={})
        daemons = [programs.start(file, serves=True) for _ in range(2)]
        for each in daemons:
            await each.event("daemon.ready")
        await seen("the first round", lambda: facts.rows(dsn, "SELECT FROM syncd.round"))
        books = Books.of(config, config.instances["mall"], Vault())
        rows = [books.sealed(store, {}) for store in stores[6:]]
        with facts.connect(dsn) as connection, connection.transaction():
            take(connection, books, [row for row in rows if isinstance(row, Sealed)])
        for each in daemons:
            (changed,) = await each.event("accounts.changed")
            assert (changed["instance"], changed["added"]) == ("mall", 6)

        assert facts.rows(dsn, "SELECT status FROM syncd.round") == [{"status": "running"}]
        mall.gate.set()
        (first,) = await ended(dsn, 1)
        facts.execute(dsn, "UPDATE syncd.job SET asked = 'trigger'")
        _, second = await ended(dsn, 2)

        assert (first["partitions"], first["status"]) == (6, "complete")
        assert (second["partitions"], second["status"]) == (12, "complete")
        found = facts.rows(dsn, "SELECT account_id, number, sum FROM mall.orders")
        assert {(r["account_id"], r["number"], r["sum"]) for r in found} == mall.true_rows()
        for each in daemons:
            each.send(signal.SIGTERM)
        assert [await each.ended() for each in daemons] == [0, 0]


async def ended(dsn: str, times: int) -> Sequence[dict[str, Any]]:
    def look() -> list[dict[str, Any]] | None:
        query = "SELECT * FROM syncd.round WHERE status <> 'running' ORDER BY id"
        found = facts.rows(dsn, query)
        return found if len(found) >= times else None

    return await seen(f"the end of {times} rounds", look)


def leased(account: str) -> Lease:
    """Make a lease on an account's tickets, as far as its place asks for it."""
    return Lease(
        partition_id=1,
        epoch=1,
        token=UUID(int=1),
        run_id=1,
        partition=Partition("desk", account, "tickets"),
        watermark=None,
        covered={},
        standing=Standing(0, None),
        claimed_at=None,  # type: ignore[arg-type]  # nobody asks for it
    )
