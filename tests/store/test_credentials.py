"""Credentials that are renewed: by one for all, stored before they are used, never twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs
import pytest
import trio
import trio.testing
from database import connect
from token_provider import INSTANCE, OWNER, Office, Provider, transactions

from syncd import sealing
from syncd.credentials import Bearer
from syncd.errors import PluginError, Unauthorized, Unavailable
from syncd.events import CredentialPostponed, CredentialRefused, CredentialRenewed
from syncd.http import Badge
from syncd.model import Credential
from syncd.store import credentials as store
from syncd.store import resealing
from syncd.store.credentials import Expiry, Owner
from syncd.vault import Vault, new_key

DEADLINE_SECONDS = 30.0


@pytest.fixture
def office(dsn: str) -> Office:
    """An office whose credential is good for two hours."""
    made = Office(dsn, Provider())
    made.put(made.provider.credential())
    return made


async def together(count: int, ask: Callable[[], Awaitable[object]]) -> list[object]:
    """Ask at once; answer with what came of each, errors too."""
    came: list[object] = []

    async def one() -> None:
        try:
            came.append(await ask())
        except (Unauthorized, Unavailable) as error:
            came.append(error)

    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)
    return came


def lose_the_lease(office: Office) -> None:
    """Let the lease have run out."""
    with connect(office.dsn) as connection:
        connection.execute(
            "UPDATE syncd.credential SET lease_until = syncd.clock() - interval '1 s'"
        )


async def test_a_valid_credential_costs_one_query_whatever_is_asked(office: Office) -> None:
    async with office.process() as here:
        badges = {id(badge) for badge in await together(500, here.badge)}

        assert len(badges) == 1
        assert transactions(here) == ["found"]
        assert office.provider.trades == 0


async def test_twenty_tasks_of_two_processes_make_one_refresh(office: Office) -> None:
    async with office.process() as here, office.process() as there:
        old = await here.badge()
        await there.badge()
        office.put(office.provider.credential(lifetime_seconds=100.0))
        for each in (here, there):  # both know that version
            each._entry.kept = None
            await each.badge()
        trades, office.provider.trades = office.provider.trades, 0

        async def both() -> None:
            for each in (here, there):
                for _ in range(10):
                    nursery.start_soon(each.newer, Badge(2, old.fields))

        with trio.fail_after(DEADLINE_SECONDS):
            async with trio.open_nursery() as nursery:
                await both()
        fresh = [await here.badge(), await there.badge()]

        assert (trades, office.provider.trades) == (0, 1)
        assert {badge.version for badge in fresh} == {3}
        assert all(map(office.provider.accepts, fresh))
        assert transactions(here).count("renew") + transactions(there).count("renew") == 1
        (told,) = office.told(CredentialRenewed)
        assert told.version == 3


@pytest.mark.parametrize("life_seconds", [7200.0, 86400.0])
def test_a_token_is_renewed_ten_minutes_or_a_tenth_before_its_end(life_seconds: float) -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    provider = Provider()

    def margin(life: float) -> float | None:
        ends_at = now + timedelta(seconds=life)
        kept = attrs.evolve(provider.credential(), access_expires_at=ends_at)
        at = sealing.renew_at(kept, now)
        return None if at is None else (ends_at - at).total_seconds()

    assert margin(life_seconds) == 600.0
    assert margin(60.0) == 6.0
    assert margin(-5.0) == 0.0
    alone = Credential(provider.credential().access_token, access_expires_at=now)
    assert sealing.renew_at(alone, now) is None


async def test_what_is_about_to_expire_is_renewed_and_stored_before_it_is_used(
    office: Office,
) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    async with office.process() as here:
        badge = await here.badge()

        row = office.row()
        assert badge.version == row["version"] == 3
        assert row["sealed_before"] is not None
        assert row["lease_token"] is None
        assert transactions(here) == ["found", "lease", "renew"]

        await here.accepted(badge)
        await here.accepted(badge)
        assert office.row()["sealed_before"] is None
        assert transactions(here)[3:] == ["confirm"]


async def test_a_pair_that_is_not_stored_yet_is_given_to_nobody(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.answers = trio.Event()
    given: list[int] = []
    async with office.process() as here:

        async def ask() -> None:
            given.append((await here.badge()).version)

        with trio.fail_after(DEADLINE_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await office.provider.asked.wait()
                with connect(office.dsn) as others:
                    others.execute("SELECT FROM syncd.credential FOR UPDATE")
                    office.provider.answers.set()
                    while "renew" not in transactions(here):  # noqa: ASYNC110  # a plain list
                        await trio.sleep(0.01)
                    nursery.start_soon(ask)
                    await trio.testing.wait_all_tasks_blocked(0.05)

                    assert given == []
                    others.rollback()
    assert given == [3, 3]


async def test_a_process_that_dies_between_commit_and_use_costs_nothing(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    async with office.process() as dies:
        await dies.badge()
    async with office.process() as follows:
        badge = await follows.badge()

        assert office.provider.accepts(badge)
        assert office.provider.trades == 1
        assert office.row()["sealed_before"] is not None
        await follows.accepted(badge)
        assert office.row()["sealed_before"] is None


async def test_a_holder_that_died_is_taken_over_after_its_lease(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    began = trio.current_time()
    with connect(office.dsn) as connection:  # of a process that is no more
        dead = UUID(int=7)
        store.lease(connection, OWNER, version=2, holder=dead, token=dead, lease_seconds=0.4)
    async with office.process() as here:
        with trio.fail_after(DEADLINE_SECONDS):
            badge = await here.badge()

        assert trio.current_time() - began >= 0.35
        assert office.provider.accepts(badge)


async def test_who_finds_it_leased_reads_the_new_pair(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.answers = trio.Event()
    badges: list[Badge] = []
    async with office.process() as here, office.process() as there:
        with trio.fail_after(DEADLINE_SECONDS):
            async with trio.open_nursery() as nursery:

                async def ask(one: Bearer) -> None:
                    badges.append(await one.badge())

                nursery.start_soon(ask, here)
                await office.provider.asked.wait()
                nursery.start_soon(ask, there)
                while "lease" not in transactions(there):  # noqa: ASYNC110  # told to no task
                    await trio.sleep(0.01)
                office.provider.answers.set()

    assert office.provider.trades == 1
    assert [badge.version for badge in badges] == [3, 3]


async def test_a_pair_is_stored_though_the_lease_ran_out_and_the_run_was_cancelled(
    office: Office,
) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.answers = trio.Event()
    async with office.process() as here:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.badge)
            await office.provider.asked.wait()
            nursery.cancel_scope.cancel()
            lose_the_lease(office)
            office.provider.answers.set()

        row = office.row()
        assert (row["version"], row["lease_token"]) == (3, None)
        assert office.provider.accepts(await here.badge())


async def test_an_import_wins_over_a_refresh_that_is_on_its_way(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.answers = trio.Event()
    badges: list[Badge] = []
    async with office.process() as here:
        with trio.fail_after(DEADLINE_SECONDS):
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    badges.append(await here.badge())

                nursery.start_soon(ask)
                await office.provider.asked.wait()
                office.put(Provider(number=500).credential())
                office.provider.answers.set()

    assert badges[0].fields["authorization"] == "Bearer access-500-of-north"
    assert office.row()["version"] == 3


async def test_a_lost_answer_of_a_rotating_refresh_waits_for_a_person(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.loses = True
    async with office.process() as here:
        with pytest.raises(Unavailable):
            await here.badge()
        assert office.row()["lease_token"] is None  # given back
        office.provider.loses = False
        here._entry.failure = None  # some seconds later

        for _ in range(2):
            with pytest.raises(Unauthorized, match=r"office\[north\]: reauth_required: invalid_g"):
                await here.badge()
        assert office.row()["state"] == "reauth_required"
        assert [told.reason for told in office.told(CredentialRefused)] == ["invalid_grant"]
        assert office.provider.trades == 2

        office.put(office.provider.credential())
        assert office.provider.accepts(await here.badge())


async def test_a_lost_answer_costs_nothing_where_the_old_token_still_works(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.keeps = office.provider.loses = True
    async with office.process() as here:
        with pytest.raises(Unavailable):
            await here.badge()
        office.provider.loses = False
        here._entry.failure = None  # some seconds later

        assert office.provider.accepts(await here.badge())


async def test_the_pair_before_is_tried_once_where_the_new_one_was_never_let_in(
    office: Office,
) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.keeps = True
    async with office.process() as here:
        badge = await here.badge()
        office.provider.number -= 1  # the provider forgot what it answered

        newer = await here.newer(badge)

        assert newer is not None
        assert newer.version == 4
        assert office.provider.taken == ["refresh-000-of-north"] * 2
        assert office.row()["sealed_before"] is not None

        await here.accepted(newer)
        office.provider.dead = True
        trades = office.provider.trades
        with pytest.raises(Unauthorized, match="reauth_required"):
            await here.newer(newer)
        assert office.provider.trades == trades + 1  # there is no pair before any more


async def test_a_provider_that_cannot_be_asked_is_the_request_s_trouble_and_no_reauth(
    office: Office,
) -> None:
    office.put(office.provider.credential(lifetime_seconds=100.0))
    office.provider.trouble = Unavailable("token", "answered 503")
    async with office.process() as here:
        old = await here.badge()
        came = await together(20, lambda: here.newer(old))

        assert {type(each) for each in came} == {Unavailable}
        assert office.provider.trades == 1  # who waited does not ask once more
        assert len(office.told(CredentialPostponed)) == 1
        assert (office.row()["state"], office.row()["lease_token"]) == ("ok", None)

        # About to expire, and valid still: it is used as it is.
        kept = here._entry.kept
        assert kept is not None
        here._entry.kept = attrs.evolve(kept, renew_at=datetime.now(UTC))
        assert (await here.badge()).version == old.version


async def test_a_mistake_of_the_plugin_does_not_leave_the_lease(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    office.provider.trouble = PluginError("office", "refresh answered with int", "mend it")
    async with office.process() as here:
        with pytest.raises(PluginError):
            await here.badge()

    assert (office.row()["state"], office.row()["lease_token"]) == ("ok", None)


async def test_a_refused_token_that_somebody_has_renewed_is_only_read_anew(office: Office) -> None:
    async with office.process() as here, office.process() as there:
        old = await here.badge()
        assert await there.newer(await there.badge()) is not None

        newer = await here.newer(old)

        assert newer is not None
        assert office.provider.accepts(newer)
        assert office.provider.trades == 1


async def test_without_a_refresh_another_credential_is_used_once_it_is_there(
    office: Office,
) -> None:
    async with office.process() as here:
        here.trade = None
        old = await here.badge()
        assert await here.newer(old) is None

        office.put(Provider(number=7).credential())
        newer = await here.newer(old)

        assert newer is not None
        assert newer.fields["authorization"] == "Bearer access-007-of-north"


async def test_no_credential_and_no_key_are_the_account_s_trouble_alone(office: Office) -> None:
    async with office.process() as here:
        here._all.vault = Vault([new_key()])
        with pytest.raises(Unauthorized, match="no key opens the secret of credential office/nor"):
            await here.badge()
        with connect(office.dsn) as connection:
            connection.execute("DELETE FROM syncd.credential")
        with pytest.raises(Unauthorized, match="reauth_required: there is no credential in the v"):
            await here.badge()


async def test_a_database_that_is_away_keeps_no_pair_from_being_stored(office: Office) -> None:
    office.put(office.provider.credential(lifetime_seconds=0.0))
    async with office.process() as here:
        new = await office.provider(office.provider.credential())
        here._entry.unsaved = (2, new, False)  # as after a commit that failed

        assert office.provider.accepts(await here.badge())
        assert office.provider.trades == 1
        assert office.row()["version"] == 3


def test_no_token_is_legible_in_the_table_and_a_row_opens_for_itself_only(office: Office) -> None:
    row = office.row()
    text = repr(row)

    assert "of-north" not in text
    assert b"of-north" not in row["sealed"]
    with connect(office.dsn) as connection:
        stored = store.found(connection, OWNER)
    assert sealing.opened(office.vault, OWNER, stored).credential.details == {"open_id": "north-1"}
    with pytest.raises(Exception, match="no key opens"):
        sealing.opened(office.vault, Owner("office", "south"), stored)
    assert "of-north" not in repr(sealing.opened(office.vault, OWNER, stored).credential)


def test_an_expiry_is_told_once_a_day_by_one_daemon(office: Office) -> None:
    now = datetime.now(UTC)
    soon = attrs.evolve(office.provider.credential(), refresh_expires_at=now + timedelta(days=29))
    office.put(soon)
    configured = [Expiry("south", "configured credential", now + timedelta(days=1))]
    with connect(office.dsn) as connection:
        connection.execute("INSERT INTO syncd.account (instance, name) VALUES ('office', 'south')")

        def told(at: datetime) -> list[tuple[str, str]]:
            found = store.expiring(
                connection, INSTANCE.name, configured, within_seconds=30 * 86400.0, now=at
            )
            return sorted((each.account, each.what) for each in found)

        both = [("north", "refresh token"), ("south", "configured credential")]
        assert told(now) == both
        assert told(now + timedelta(hours=23)) == []
        assert told(now + timedelta(hours=25)) == both
        assert store.expiring(connection, "none", [], within_seconds=1.0, now=now) == []


def test_all_that_is_sealed_is_sealed_anew_in_batches_but_what_no_key_opens(
    office: Office,
) -> None:
    key, count = new_key(), 2 * resealing.ROWS_AT_ONCE + 1
    names = [f"shop-{number:05}" for number in range(count - 1)]
    new = {
        name: sealing.sealed(office.vault, Owner("office", name), office.provider.credential())
        for name in names
    }
    new["north"] = sealing.sealed(Vault([new_key()]), OWNER, office.provider.credential())
    with connect(office.dsn) as connection:
        connection.execute(
            "INSERT INTO syncd.account (instance, name) SELECT 'office', unnest(%s::text[])",
            (names,),
        )
        assert store.bring(connection, INSTANCE, new) == []
        where = resealing.SEALED[0]
        after: tuple[str, str] | None = ("", "")
        steps = []
        while after is not None:
            step = resealing.reseal(
                connection,
                where,
                after,
                lambda sealed, row: Vault([key]).seal(
                    office.vault.reveal(sealed, owner=row).reveal(), owner=row
                ),
            )
            after = step.last
            steps.append(step)
        found = store.every(connection)

    assert [step.rows for step in steps] == [499, 500, 1, 0]
    assert [name for step in steps for name in step.unreadable] == ["credential office/north"]
    opened = [sealing.opened(Vault([key]), o, row) for o, row in found.items() if o != OWNER]
    assert len(opened) == count - 1
    assert {each.version for each in opened} == {1}
