"""Whole runs of the TikTok connector: its simulator over real HTTP, real PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import attrs
import psycopg
import pytest
import trio
from database import connect

from syncd import Credential, Secret, sealing
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import Event, RunFinished
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.store import credentials
from syncd.store.credentials import Owner
from syncd.testing import serve
from syncd.vault import Vault, new_key
from syncd.verdicts import Result
from syncd_tiktok import plugin
from syncd_tiktok.simulator import SCOPES, Grant, Simulator, Store, TikTok
from syncd_tiktok.simulator_answers import OAUTH_TOKEN, USER_INFO
from syncd_tiktok.simulator_tokens import Regime

DEADLINE_SECONDS = 90.0
KEY = new_key()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

E = TypeVar("E", bound=Event)

JOBS = """
[jobs.users]
connector = "tiktok"
streams = ["user_daily"]
mode = "full"

[jobs.videos]
connector = "tiktok"
streams = ["videos", "video_daily"]
mode = "full"
after = ["users"]
"""


@attrs.define
class Clock:
    """What time it is upstream and in the database: noon of a day, and what passes from then on."""

    days: float = 0.0
    began_at: datetime = attrs.field(factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return NOON + timedelta(days=self.days) + (datetime.now(UTC) - self.began_at)


@attrs.define
class World:
    """A database, the upstream, and what was said in the last run."""

    dsn: str
    upstream: TikTok
    base_url: str
    events: list[Event] = attrs.field(factory=list)
    settings: str = ""
    clock: Clock = attrs.field(factory=Clock)
    static: bool = True  # tokens stand in the configuration, and not in the vault

    def text(self) -> str:
        lines = [
            f'[database]\nurl = "{self.dsn}"\npool_max = 4\n[vault]\nkeys = ["{KEY.reveal()}"]',
            f'[connectors.tiktok]\nbase_url = "{self.base_url}/v2"\n{self.settings}',
        ]
        for name in self.upstream.stores:
            lines.append(f'[[connectors.tiktok.accounts]]\nname = "{name}"')
            lines += [f'access_token = "act.{name}"'] if self.static else []
        return "\n".join([*lines, JOBS])

    def configured(self) -> tuple[Config, Plugins]:
        plugins = Plugins({"tiktok": plugin})
        raw = parse(self.text(), file="syncd.toml", folder=Path.cwd())
        return structure(raw, plugins.connectors, environment={}), plugins

    def bring(self, *grants: Grant) -> None:
        """Store what stores have granted in the vault, as an operator imports it."""
        self.set_clock()
        config, _ = self.configured()
        vault, brought = Vault([KEY]), {}
        for grant in grants:
            credential = Credential(
                Secret(grant.access_token),
                Secret(grant.refresh_token),
                access_expires_at=grant.access_expires_at,
                refresh_expires_at=grant.refresh_expires_at,
                details={"scope": ",".join(grant.scopes)},
            )
            owner = Owner("tiktok", grant.store)
            brought[grant.store] = sealing.sealed(vault, owner, credential)
        with connect(self.dsn) as connection:
            credentials.bring(connection, config.instances["tiktok"], brought)
            connection.commit()

    async def run(self, job: str) -> dict[str, Result]:
        """Run a job once; answer with what became of each store."""
        self.events.clear()
        self.set_clock()
        config, plugins = self.configured()
        observer = Observer()
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            return await run_job(process, config.jobs[job], mode="full", wait_seconds=2.0)

        results = await Root(config, plugins, observer).run(main)
        return {result.partition.partition("[")[2].rstrip("]"): result for result in results}

    async def both(self) -> None:
        for job in ("users", "videos"):
            results = await self.run(job)
            assert {each.verdict for each in results.values()} == {"complete"}, results

    def set_clock(self) -> None:
        """Let the database's clock begin at noon of a day: a test may run at midnight."""
        moment = NOON + timedelta(days=self.clock.days)
        self.execute(
            "CREATE OR REPLACE FUNCTION syncd.clock(now timestamptz DEFAULT NULL)"
            " RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS $$ SELECT coalesce(now,"
            f" clock_timestamp() + ('{moment.isoformat()}'::timestamptz"
            f" - '{self.clock.began_at.isoformat()}'::timestamptz)) $$"
        )

    def execute(self, statement: str) -> None:
        with connect(self.dsn) as connection:
            connection.execute(statement.encode())
            connection.commit()

    def rows(self, query: str) -> set[tuple[Any, ...]]:
        with connect(self.dsn) as connection:
            return {tuple(row.values()) for row in connection.execute(query.encode())}

    def counted(self) -> Counter[str]:
        """Sum what the last job's runs did."""
        names = ("inserted", "updated", "unchanged", "quarantined", "requests")
        told = [event for event in self.events if isinstance(event, RunFinished)]
        return Counter({name: sum(getattr(run, name) for run in told) for name in names})

    @property
    def true_counts(self) -> set[tuple[Any, ...]]:
        """Return what a snapshot of now must hold: store, video, its counts."""
        return {
            (store.name, v.id, v.views, v.likes, v.comments, v.shares)
            for store in self.upstream.stores.values()
            for v in store.shown
        }

    def counts(self, day: str) -> set[tuple[Any, ...]]:
        return self.rows(
            "SELECT account_id, video_id, view_count, like_count, comment_count, share_count"
            f" FROM tiktok.video_daily WHERE snapshot_date = '{day}'"
        )


@asynccontextmanager
async def world(
    dsn: str, stores: dict[str, int], *, settings: str = "", **options: Any
) -> AsyncIterator[World]:
    clock = Clock()
    upstream = TikTok(stores, now=clock.now, **options)
    for name in stores:
        upstream.permit(name)
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(Simulator(upstream)) as base_url:
            yield World(dsn, upstream, base_url, settings=settings, clock=clock)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Note every statement that this process sends."""
    seen: list[str] = []
    original = psycopg.Cursor.execute

    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(str(query))
        return original(self, query, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", execute)
        yield seen


TODAY, TOMORROW = "2026-11-21", "2026-11-22"
USERS_OF_A_DAY = (
    "SELECT account_id, open_id, follower_count, likes_count, video_count, snapshot_date::text"
    " FROM tiktok.user_daily"
)


async def test_each_day_has_one_snapshot_and_a_second_run_of_it_changes_nothing(
    dsn: str,
) -> None:
    async with world(dsn, {"store-1": 50, "store-2": 20, "store-3": 0}) as there:
        stores = there.upstream.stores.values()
        await there.both()

        users = {(s.name, s.open_id, s.followers, s.likes, len(s.videos), TODAY) for s in stores}
        assert there.rows(USERS_OF_A_DAY) == users
        assert there.counts(TODAY) == there.true_counts
        first = there.true_counts
        assert there.rows(
            "SELECT account_id, video_id, create_time, share_url LIKE '%?%' FROM tiktok.videos"
        ) == {
            (s.name, v.id, datetime.fromtimestamp(v.create_time, UTC), False)
            for s in stores
            for v in s.shown
        }

        for job in ("users", "videos"):  # signed addresses differ by now
            await there.run(job)
            done = there.counted()
            assert (done["inserted"], done["updated"], done["quarantined"]) == (0, 0, 0), job

        there.clock.days = 1.0
        for store in stores:
            store.move(Random(1), share=0.5)
        await there.both()

        assert there.counts(TODAY) == first
        assert there.counts(TOMORROW) == there.true_counts != first
        assert {row[-1] for row in there.rows(USERS_OF_A_DAY)} == {TODAY, TOMORROW}
        assert there.rows("SELECT count(*) FROM tiktok.videos") == {(70,)}


async def test_two_videos_of_one_second_at_a_pages_edge_are_both_there(dsn: str) -> None:
    async with world(dsn, {"store-1": 60, "store-2": 0}) as there:
        edge = list(there.upstream.stores["store-1"].shown)[19]
        twin = there.upstream.stores["store-1"].publish(edge.created_ms)
        many = there.upstream.stores["store-2"]
        for n in range(45):  # 20 of them in one second, and more than a page before and after
            many.publish(edge.created_ms + max(0, n - 12) * 1000 * (n < 13 or n > 32))
        await there.run("videos")

        found = {row[1] for row in there.counts(TODAY) if row[0] == "store-1"}
        assert {edge.id, twin.id} <= found
        assert len(found) == 61

        there.settings = "reread_edge = false"
        there.execute("TRUNCATE tiktok.video_daily")
        await there.run("videos")
        assert len({row for row in there.counts(TODAY) if row[0] == "store-1"}) == 60, "one is lost"


async def test_what_moves_while_pages_are_read_neither_hides_nor_doubles_a_video(
    dsn: str,
) -> None:
    async with world(dsn, {"store-1": 70}, cursors_in="milliseconds") as there:
        store = there.upstream.stores["store-1"]
        old = list(store.shown)
        gone: list[str] = []

        def between(store: Store, pages: int) -> None:
            store.publish()
            store.move(Random(pages), share=0.3)
            if pages == 1:
                gone.append(old[30].id)  # of the next page
                store.delete(old[30].id)
                old[45].hidden = old[46].hidden = True  # a page of 18, and more follow

        there.upstream.after_page = between
        results = await there.run("videos")

        assert results["store-1"].verdict == "complete"
        found = {row[0] for row in there.rows("SELECT video_id FROM tiktok.videos")}
        hidden = {old[45].id, old[46].id}
        assert found == {video.id for video in old} - set(gone) - hidden
        pages = [each.cursor for each in there.upstream.asked]
        assert len(pages) == 4
        assert pages[0] is None


async def test_videos_that_are_gone_are_marked_after_one_complete_pass(dsn: str) -> None:
    settings = '[connectors.tiktok.streams.videos]\non_absent = "mark"\n'
    async with world(dsn, {"store-1": 45}, settings=settings) as there:
        await there.run("videos")
        store = there.upstream.stores["store-1"]
        deleted, private = list(store.shown)[3], list(store.shown)[30]
        store.delete(deleted.id)
        private.hidden = True
        await there.run("videos")

        marked = "SELECT video_id FROM tiktok.videos WHERE _syncd_absent_at IS NOT NULL"
        assert there.rows(marked) == {(deleted.id,), (private.id,)}
        private.hidden = False
        await there.run("videos")
        assert there.rows(marked) == {(deleted.id,)}


async def test_a_dead_token_parks_one_store_and_costs_the_others_nothing(dsn: str) -> None:
    stores = {f"store-{n}": 25 for n in range(5)}
    async with world(dsn, stores, always_200=True) as there:
        there.upstream.tokens.revoke("store-3")
        results = await there.run("videos")

        verdicts = Counter(result.verdict for result in results.values())
        assert verdicts == {"complete": 4, "failed": 1}
        parked = "SELECT name, parked_reason FROM syncd.account WHERE state = 'parked'"
        ((name, reason),) = there.rows(parked)
        assert name == "store-3"
        assert "access_token_invalid" in reason
        assert {row[0] for row in there.counts(TODAY)} == set(stores) - {"store-3"}
        assert sum(each.code == "access_token_invalid" for each in there.upstream.asked) == 1


async def test_a_refused_scope_is_named_and_missing_columns_stay_null(dsn: str) -> None:
    settings = 'scopes = ["user.info.basic", "user.info.stats", "video.list"]'
    async with world(dsn, {"store-1": 5, "store-2": 5}, settings=settings) as there:
        there.upstream.tokens.revoke("store-1")
        bare = ("user.info.basic", "user.info.stats")
        there.upstream.tokens.grant("store-1", bare, access_token="act.store-1")
        users = await there.run("users")
        videos = await there.run("videos")

        assert {each.verdict for each in users.values()} == {"complete"}
        assert there.rows(
            "SELECT DISTINCT username, follower_count > 0 FROM tiktok.user_daily"
        ) == {(None, True)}
        assert videos["store-2"].verdict == "complete"
        assert videos["store-1"].verdict == "failed"
        assert "scope_not_authorized" in videos["store-1"].message


async def test_what_the_api_says_of_itself_is_waited_for_and_no_page_is_lost(dsn: str) -> None:
    async with world(dsn, {"store-1": 70}, always_200=True, limit=(600, 60.0)) as there:
        there.upstream.refusals.extend(["rate_limit_exceeded", "internal_error"])
        results = await there.run("videos")

        assert results["store-1"].verdict == "complete"
        assert there.counts(TODAY) == there.true_counts
        codes = Counter(each.code for each in there.upstream.asked)
        assert codes == {"ok": 4, "rate_limit_exceeded": 1, "internal_error": 1}


async def test_a_page_costs_as_many_statements_however_many_videos_are_on_it(dsn: str) -> None:
    async with world(dsn, {"store-1": 1}) as there:
        await there.run("videos")
        seen: list[int] = []
        for videos in (1, 18):
            for _ in range(videos):
                there.upstream.stores["store-1"].publish()
            with statements() as noted:
                await there.run("videos")
            seen.append(len(noted))
            assert there.counted()["inserted"] == 2 * videos

        few, many = seen
        assert few > 10
        assert abs(many - few) <= 6, "renewals of the lease aside"


async def test_a_pass_that_waits_into_another_day_is_begun_anew_for_that_day(dsn: str) -> None:
    async with world(dsn, {"store-1": 70}) as there:
        there.upstream.after_page = lambda _, pages: there.upstream.refusals.extend(
            ["invalid_params"] * 100 if pages == 2 else []
        )
        cut = await there.run("videos")
        assert cut["store-1"].verdict != "complete"
        left = there.counts(TODAY)

        there.upstream.refusals.clear()
        there.clock.days = 1.0
        results = await there.run("videos")

        assert results["store-1"].verdict == "complete"
        assert there.counts(TOMORROW) == there.true_counts
        assert there.counts(TODAY) == left


# --- Tokens that are renewed ----------------------------------------------------------------------


@pytest.mark.parametrize("regime", ["2h", "24h"])
async def test_tokens_are_renewed_once_and_a_dead_one_parks_its_store_alone(
    dsn: str, regime: Regime
) -> None:
    stores = {f"store-{n}": 25 for n in range(3)}
    settings = 'client_key = "client-key"\nclient_secret = "client-secret"'
    async with world(dsn, stores, settings=settings, regime=regime, oauth_status=200) as there:
        upstream, there.static = there.upstream, False
        there.bring(*(upstream.tokens.grant(name, tuple(SCOPES)) for name in stores))

        def trades() -> int:
            return sum(each.path == OAUTH_TOKEN for each in upstream.asked)

        await there.both()
        assert trades() == 0, "tokens are good for hours"

        there.clock.days += 1.05  # over both regimes' hours
        await there.both()
        assert trades() == len(stores)
        assert there.counts(TOMORROW) == there.true_counts

        upstream.tokens.expire("store-1")  # sooner than was told
        upstream.tokens.revoke("store-2")
        results = await there.run("videos")

        assert results["store-1"].verdict == "complete"
        assert results["store-0"].verdict == "complete"
        assert "reauth_required" in results["store-2"].message
        assert there.rows("SELECT name FROM syncd.account WHERE state = 'parked'") == {("store-2",)}
        assert trades() == len(stores) + 2
        assert upstream.tokens.reused == 0
        assert not [each for each in there.events if "act." in repr(each) or "rft." in repr(each)]

        there.bring(upstream.tokens.grant("store-2", tuple(SCOPES)))
        await there.both()


async def test_what_a_store_has_granted_decides_what_is_asked_for(dsn: str) -> None:
    async with world(dsn, {"store-1": 3, "store-2": 3}) as there:
        there.static = False
        grant = there.upstream.tokens.grant
        there.bring(
            grant("store-1", ("user.info.basic", "user.info.stats", "video.list")),
            grant("store-2", ("user.info.basic", "video.list")),
        )
        videos = await there.run("videos")
        users = await there.run("users")

        assert {each.verdict for each in videos.values()} == {"complete"}
        assert users["store-1"].verdict == "complete"
        assert there.rows("SELECT username, follower_count > 0 FROM tiktok.user_daily") == {
            (None, True)
        }
        assert "has not granted user.info.stats" in users["store-2"].message
        asked = [each for each in there.upstream.asked if each.path == USER_INFO]
        assert [each.code for each in asked] == ["ok"], "what is known to be refused is not asked"
