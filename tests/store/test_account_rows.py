"""What rows of accounts may say, and what becomes of their partitions."""

from __future__ import annotations

from itertools import pairwise
from uuid import uuid4

import psycopg
import pytest
from database import connect
from first_release import connect_old, released
from frontier_world import register

from syncd.progress import Next
from syncd.rounds import JobState
from syncd.store import accounts, leases, parking, rounds
from syncd.store.accounts import Sealed
from syncd.store.hops import Connection
from syncd.store.leases import Effort
from syncd.store.resealing import SEALED, reseal
from syncd.vault import Vault, new_key

NAMES = ["a", "b", "c"]


def instance(connection: Connection, *names: str) -> None:
    """Make the instance `i` known, and accounts of it in the table."""
    connection.execute(
        "INSERT INTO syncd.instance VALUES ('i', 'p', '1', syncd.clock()) ON CONFLICT DO NOTHING"
    )
    accounts.put(connection, "i", [Sealed(name, {"region": name}, b"s") for name in names])


def revision(connection: Connection) -> int:
    return accounts.kept(connection, "i").revision


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("origin", "'nowhere'"),
        ("origin", "'table'"),
        ("origin, settings", "'table', '{}'"),
        ("settings", "'{}'"),
        ("secrets", "'\\x00'"),
        ("origin, settings, changed_at", "'table', '[]', syncd.clock()"),
        ("origin, settings, changed_at, secrets", "'table', '{}', syncd.clock(), ''"),
        ("origin, settings, changed_at, name", "'table', '{}', syncd.clock(), 'a b'"),
    ],
)
def test_impossible_rows_are_refused(connection: Connection, columns: str, values: str) -> None:
    instance(connection)
    name = ("", "") if "name" in columns else (", name", ", 'x'")
    text = (
        f"INSERT INTO syncd.account (instance, {columns}{name[0]}) VALUES ('i', {values}{name[1]})"
    )
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(text.encode())


def test_names_that_differ_in_their_case_alone_are_refused(connection: Connection) -> None:
    instance(connection, "a")
    with pytest.raises(psycopg.errors.UniqueViolation):
        instance(connection, "A")


def test_each_change_is_told_in_its_transaction_and_nothing_else_is(connection: Connection) -> None:
    instance(connection, *NAMES)
    connection.commit()
    told = [revision(connection)]
    for change, names in (
        (accounts.disable, ["a", "gone"]),
        (accounts.disable, ["a"]),
        (accounts.enable, NAMES),
        (accounts.remove, ["b"]),
        (accounts.remove, ["b"]),
    ):
        change(connection, "i", names)
        told.append(revision(connection))
    assert [after - before for before, after in pairwise(told)] == [1, 0, 1, 1, 0]

    connection.rollback()
    assert revision(connection) == told[0]
    assert [each.sealed.name for each in accounts.kept(connection, "i").accounts] == NAMES


def test_a_removed_account_leaves_no_secret_and_comes_back_whole(connection: Connection) -> None:
    instance(connection, "a")
    accounts.remove(connection, "i", ["a"])
    row = connection.execute(
        "SELECT origin, enabled, settings, secrets FROM syncd.account WHERE name = 'a'"
    ).fetchone()
    assert row == {
        "origin": "configuration",
        "enabled": False,
        "settings": None,
        "secrets": None,
    }
    assert accounts.kept(connection, "i").accounts == []

    instance(connection, "a")
    (back,) = accounts.kept(connection, "i").accounts
    assert (back.sealed, back.enabled) == (Sealed("a", {"region": "a"}, b"s"), True)


def test_a_new_credential_lets_a_refused_account_go_on_and_not_one_an_operator_parked(
    connection: Connection,
) -> None:
    instance(connection, "a", "b", "c")
    leases.park_account(connection, "i", "a", "401")
    parking.park_accounts(connection, "i", "b", "their maintenance")
    accounts.disable(connection, "i", ["c"])

    instance(connection, "a", "b", "c")

    found = {each.sealed.name: each for each in accounts.kept(connection, "i").accounts}
    assert {name: each.parked for name, each in found.items()} == {
        "a": None,
        "b": "their maintenance",
        "c": None,
    }
    assert not found["c"].enabled, "it stays disabled"


def test_partitions_of_a_disabled_account_have_no_turn_and_are_claimed_by_nobody(
    dsn: str,
) -> None:
    with connect(dsn) as connection:
        partition = register(connection)
        connection.execute(
            "UPDATE syncd.account SET origin = 'table', settings = '{}', changed_at = syncd.clock()"
        )
        row = connection.execute("SELECT instance, name FROM syncd.account").fetchone()
        assert row is not None
        rounds.register(connection, {"j": ("1s", None)})
        for leased in (False, True):
            begun = begin(connection, partition)
            (lease,) = claim(connection) if leased else (None,)

            assert accounts.disable(connection, row["instance"], [row["name"]]) == [row["name"]]

            if lease is not None:
                rest = Next("drained", 0.0, 0, "")
                leases.release(
                    connection,
                    lease,
                    rest,
                    job="j",
                    committed=True,
                    effort=Effort(),
                    error_class=None,
                )
            assert claim(connection) == []
            assert not state(connection).owed
            connection.execute("UPDATE syncd.round SET status = 'lost', finished_at = started_at")
            connection.execute("DELETE FROM syncd.turn")
            accounts.enable(connection, row["instance"], [row["name"]])
            assert begun


def test_an_account_that_the_configuration_has_too_keeps_its_turns(dsn: str) -> None:
    with connect(dsn) as connection:
        partition = register(connection)
        connection.execute(
            "UPDATE syncd.account SET origin = 'table', settings = '{}', changed_at = syncd.clock()"
        )
        row = connection.execute("SELECT instance, name FROM syncd.account").fetchone()
        assert row is not None
        rounds.register(connection, {"j": ("1s", None)})
        begin(connection, partition)

        accounts.remove(connection, row["instance"], [row["name"]], standing=[row["name"]])

        assert state(connection).owed
        assert len(claim(connection)) == 1


def test_a_process_of_an_older_release_goes_on_beside_accounts_of_the_table(dsn: str) -> None:
    with connect(dsn) as new, connect_old(dsn) as old:
        instance(new, "a")
        new.commit()
        said = released("registry")
        old.execute(said["register_instance"].encode(), {
            "name": "i", "plugin": "p", "version": "0", "now": None,
        })  # fmt: skip
        old.execute(said["register_accounts"].encode(), {"instance": "i", "names": ["a", "z"]})
        leases.park_account(old, "i", "a", "401")
        old.commit()

        (kept,) = accounts.kept(new, "i").accounts
        assert (kept.sealed.settings, kept.parked) == ({"region": "a"}, "401")
        assert revision(new) == 1


def test_secrets_are_sealed_anew_where_they_stand(connection: Connection) -> None:
    old, new = new_key(), new_key()
    instance(connection)
    seal = Vault([old]).seal
    rows = [Sealed(name, {}, seal(name, owner=f"account i/{name}")) for name in NAMES[:2]]
    accounts.put(connection, "i", [*rows, Sealed("c", {}, None)])

    both = Vault([new, old])
    (where,) = (each for each in SEALED if each.table == "account")
    step = reseal(
        connection, where, ("", ""), lambda blob, owner: both.seal_anew(blob, owner=owner)
    )

    assert (step.rows, step.unreadable) == (2, [])

    found = {
        each.sealed.name: each.sealed.secrets for each in accounts.kept(connection, "i").accounts
    }
    assert found.pop("c") is None
    for name, secrets in found.items():
        assert secrets is not None
        assert Vault([new]).reveal(secrets, owner=f"account i/{name}").reveal() == name
    assert revision(connection) == 1, "nobody need read them anew"


def begin(connection: Connection, partition: int) -> bool:
    rounds.ask(connection, "j")
    seen = state(connection)
    begun = rounds.begin(
        connection,
        seen,
        [partition],
        trigger="trigger",
        next_at=None,
        jitter_seconds=0,
        known=["j"],
    )
    return begun is not None


def claim(connection: Connection) -> list[leases.Lease]:
    return leases.claim(
        connection, owner=uuid4(), token=uuid4(), job="j", lease_seconds=60.0, free=1, wanted=True
    )


def state(connection: Connection) -> JobState:
    (found,) = rounds.states(connection, {"j": 4})
    return found
