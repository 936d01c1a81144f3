"""Accounts let in by tokens that rotate: whole runs over HTTP, and the operator's commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trio
from cryptography.fernet import Fernet
from database import connect
from token_office import CANARY, PAGES, TokenOffice, World, install

from syncd.accounts import owner_of
from syncd.events import (
    CredentialExpiring,
    CredentialRefused,
    CredentialRenewed,
    PartitionParked,
)
from syncd.store.accounts import Sealed, put
from syncd.vault import Vault, new_key

DEADLINE_SECONDS = 120.0
SEALED = (
    "SELECT sealed FROM syncd.credential"
    " UNION ALL SELECT secrets FROM syncd.account WHERE secrets IS NOT NULL"
)


@pytest.fixture
def world(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    """Three accounts whose connector any command finds installed."""
    install(tmp_path, monkeypatch)
    return World(dsn, TokenOffice("north", "south", "west"), tmp_path, capsys)


async def test_a_dead_refresh_token_parks_its_account_and_the_others_complete(
    world: World,
) -> None:
    office = world.office
    with trio.fail_after(DEADLINE_SECONDS):
        async with office.serve() as world.base_url:
            await trio.to_thread.run_sync(world.bring, office.csv(good_for_seconds=0.0))
            office.dead.add("south")
            office.revokes_at["west"] = 3
            results = await world.run()

            verdicts = {name: each.verdict for name, each in results.items()}
            assert verdicts == {
                "stamps.stamps[north]": "complete",
                "stamps.stamps[south]": "failed",
                "stamps.stamps[west]": "complete",
            }
            assert office.refreshes == {"north": 1, "south": 1, "west": 2}  # one in mid-pass
            assert [(each.account, each.reason) for each in world.told(CredentialRefused)] == [
                ("south", "invalid_grant")
            ]
            assert "reauth_required" in world.told(PartitionParked)[0].reason
            assert len(world.told(CredentialRenewed)) == 3
            assert len(world.rows("SELECT * FROM stamps.stamps")) == 2 * PAGES
            assert max(office.pages.values()) == 1

            # Nothing is asked in vain, and nothing expires within the hour.
            again = await world.run()
            assert "parked: " in again["stamps[south]"].message
            assert office.refreshes == {"north": 1, "south": 1, "west": 2}

            shown = await trio.to_thread.run_sync(world.syncd, "credentials", "list")
            found = await trio.to_thread.run_sync(world.syncd, "check")
            assert " south    reauth_required, parked " in shown.out
            assert "stamps.south: invalid_grant; run `syncd credentials import" in shown.out
            assert "account stamps.north: the token is accepted" in found.out
            assert "FAILED  credential stamps.south: stamps[south]: reauth_required" in found.out
            assert "credential stamps.west: refresh token expires in 179 days" in found.out
            assert found.code == 1
            rows = await trio.to_thread.run_sync(
                world.syncd, "preview", "stamps.stamps", "--account", "west"
            )
            assert f"stamps.stamps: {PAGES} rows" in rows.out

            office.dead.clear()
            back = await trio.to_thread.run_sync(world.bring, office.csv(between=";"))
            assert back.out == "imported 3 credentials\nresumed 1 account: south\n"
            results = await world.run()
            assert {each.verdict for each in results.values()} == {"complete"}

    assert CANARY not in world.everything()
    assert len(world.rows("SELECT * FROM stamps.stamps")) == 3 * PAGES


async def test_expiry_is_warned_of_once_a_day_in_the_vault_and_in_settings(world: World) -> None:
    world.token_until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    soon = int(datetime.now(UTC).timestamp()) + 20 * 86400
    with trio.fail_after(DEADLINE_SECONDS):
        async with world.office.serve() as world.base_url:
            lines = world.office.csv().splitlines()
            text = f"{lines[0]},refresh_expires_at\n{lines[1]},{soon}\n"
            brought = await trio.to_thread.run_sync(world.bring, "\ufeff" + text)
            assert brought.out == "imported 1 credential\n"
            await world.run()
            told = {each.account: each for each in world.told(CredentialExpiring)}
            await world.run()
            found = await trio.to_thread.run_sync(world.syncd, "check")

    assert {name: each.what for name, each in told.items()} == {
        "north": "refresh token",
        "west": "configured credential",
    }
    assert round(told["west"].seconds_left / 86400) == 3
    assert world.told(CredentialExpiring) == []
    assert "credential stamps.west: expires in 2 days" in found.out
    assert (
        "FAILED  credential stamps.south: stamps[south]: reauth_required: there is no" in found.out
    )


def test_of_a_file_with_a_wrong_row_nothing_is_imported(world: World) -> None:
    told = world.bring(world.office.csv().replace("south", "east"))

    assert told.code == 1
    assert told.err.startswith("line 3 ('east'): there is no such account")
    assert told.err.endswith("nothing was imported\n")
    assert world.rows("SELECT * FROM syncd.credential") == []


def test_credentials_are_listed_and_sealed_anew_and_their_tokens_never_show(world: World) -> None:
    assert "no credentials" in world.syncd("credentials", "list").out
    brought = msgspec.json.decode(world.bring(world.office.csv(), "--json").out)
    assert (brought["accounts"], brought["problems"]) == (["north", "south", "west"], [])
    listed = msgspec.json.decode(world.syncd("credentials", "list", "--json").out)
    assert [(each["account"], each["state"], each["version"]) for each in listed] == [
        (name, "ok", 1) for name in ("north", "south", "west")
    ]
    (old,) = world.keys
    secrets = Vault([old]).seal('{"token": "of-no-value"}', owner=owner_of("stamps", "east"))
    with connect(world.dsn) as connection:
        put(connection, "stamps", [Sealed("east", {}, secrets)])
    world.keys = [new_key(), old]

    done = world.syncd("credentials", "reencrypt")

    assert done.out == (
        "credential: 3 rows sealed with the first key\naccount: 1 row sealed with the first key\n"
    )
    assert done.code == 0
    world.keys = world.keys[:1]
    assert world.syncd("credentials", "reencrypt").code == 0
    sealed = [row["sealed"] for row in world.rows(SEALED)]
    assert len(sealed) == 4
    assert all(CANARY in Fernet(world.keys[0].reveal()).decrypt(each).decode() for each in sealed)
    world.keys = [new_key()]
    lost = world.syncd("credentials", "reencrypt")
    assert lost.code == 78
    assert "no key opens: credential stamps/north" in lost.out
    world.keys = []
    none = world.bring(world.office.csv())
    assert (none.code, "run `syncd credentials new-key`" in none.err) == (78, True)
    assert CANARY not in world.everything()


def test_a_new_key_is_printed_and_opens_what_it_sealed(world: World) -> None:
    first, second = (world.syncd("credentials", "new-key").out.strip() for _ in range(2))

    assert first != second
    assert Fernet(first).decrypt(Fernet(first).encrypt(b"x")) == b"x"


def test_a_connector_that_is_not_there_is_a_wrong_command_line(world: World) -> None:
    file = world.folder / "stores.csv"
    file.write_text(world.office.csv())

    assert world.syncd("credentials", "import", "stamp", str(file)).code == 64
    assert world.syncd("credentials", "import", "stamps", str(file) + ".no").code == 64
