"""What a stream redacts, and an account's secrets, are in no quarantine, log or message."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from census import STREAM, Plugin, person
from database import connect
from test_absent_rows import census
from ticket_desk import Desk, Office

from syncd.errors import ConfigError
from syncd.events import Event, RecordsQuarantined
from syncd.model import Stream

SECRET = "somebody@example.org"


@attrs.define
class Domain:
    id: int


@attrs.define
class Lot:
    domain: Domain
    number: int


def plugin(**options: Any) -> Plugin:
    def change(each: Any) -> Any:
        if each.revision == 13:
            raise ValueError(f"cannot take {each.name[:8]} of {each.name}")
        return each

    stream = attrs.evolve(STREAM, redact=("name", "owner.email"), on_absent="keep", **options)
    return Plugin(stream, change=change)


@pytest.mark.parametrize(
    "bad",
    [
        person(7, name=SECRET, revision="none"),  # cannot be decoded
        person(7, name=SECRET, revision=13),  # its transform quotes half of it
        person(7, name=f"{SECRET}\x00"),  # cannot be sent
        person(7, name=SECRET, revision=2**70),  # an impossible version
        person(7, name="a name", revision="none", owner=[{"email": SECRET}]),
        person(7, name="a name", revision="none", owner=SECRET),
    ],
    ids=["decode", "transform", "dump", "version", "nested", "drifted"],
)
async def test_a_redacted_value_is_kept_nowhere(dsn: str, bad: Any) -> None:
    async with census(dsn, plugin(), north=[[1, 2, bad]]) as there:
        result = await there.run()

        assert result.verdict == "complete"
        (row,) = there.rows("SELECT * FROM syncd.quarantine")
        assert SECRET[:8] not in f"{row} {bytes(row['raw'])!r} {said(there.events)} {result}"
        assert b'"***"' in row["raw"]
        assert b'"id":7' in row["raw"]
        assert row["raw_hash"] is not None
        assert [each.count for each in there.events if isinstance(each, RecordsQuarantined)] == [1]


def said(events: list[Event]) -> str:
    return " ".join(map(str, events))


async def test_a_redacted_value_is_not_told_by_a_page_that_is_refused(dsn: str) -> None:
    bad = [person(n, name=SECRET, revision="none") for n in range(30)]
    async with census(dsn, plugin(), north=[bad]) as there:
        result = await there.run()

        assert "30 of 30 records of people would be set aside" in result.message
        assert SECRET[:8] not in f"{said(there.events)} {result}"


async def test_a_row_that_the_table_refuses_is_redacted_too(dsn: str) -> None:
    async with census(dsn, plugin(), north=[[1]]) as there:
        await there.run()
        there.execute(f"ALTER TABLE census.people ADD CHECK (name <> '{SECRET}')")
        there.bureau.towns["north"] = [[1, person(7, name=SECRET)]]

        await there.run()

        (row,) = there.rows("SELECT key, reason, message, raw FROM syncd.quarantine")
        assert (row["key"], row["reason"]) == ('{"id": 7}', "refused")
        assert row["raw"] == b'{"id":7,"name":"***","revision":1}'
        assert SECRET not in row["message"]


async def test_a_key_cannot_be_redacted(dsn: str) -> None:
    for redact in ("domain", "domain.id", "number"):
        stream = Stream("lots", Lot, key=("domain.id", "number"), redact=("seller", redact))
        async with census(dsn, Plugin(stream)) as there:
            with pytest.raises(ConfigError, match="a part of the key is to be redacted"):
                await there.run()


async def test_the_accounts_own_secret_is_masked_where_the_upstream_sends_it_back(
    dsn: str,
) -> None:
    desk = Desk({0: ([1, 2], None)})
    token = "token-of-no-value"
    desk.messages[2] = [{"id": "none", "text": f"you are {token}"}]
    async with desk.serve() as base_url:
        office = Office(dsn, desk, base_url)

        (result,) = await office.run(token)

        assert result.verdict == "complete"
        with connect(dsn) as connection:
            (row,) = connection.execute("SELECT raw, raw_hash FROM syncd.quarantine").fetchall()
        assert row["raw"] == b'{"id": "none", "text": "you are ***"}'
        assert row["raw_hash"] is not None
