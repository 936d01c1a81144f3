"""Text, numbers and types that no column takes, and types that drift: each costs its record."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Annotated, Any

import attrs
import pytest
from census import STREAM, Census, Plugin, person
from test_absent_rows import census

from syncd import Column
from syncd.events import CursorFailed, RecordsQuarantined
from syncd.verdicts import exit_code

GOOD = [person(1), person(2)]


@attrs.define
class Anything:
    """A record with a column of each kind that upstreams get wrong."""

    id: int
    name: str | None = None
    count: int | None = None
    ratio: float | None = None
    born: date | None = None
    seen: datetime | None = None
    about: Annotated[Any, Column("jsonb")] = None


PLUGIN = Plugin(
    attrs.evolve(STREAM, record=Anything, version=None, on_absent="keep", per_account=True)
)


async def walked(there: Census, body: bytes) -> tuple[set[int], list[str]]:
    """Walk a page of this body; answer with whose rows are there, and why others are aside."""
    there.bureau.answers["north", 1] = body
    result = await there.run()
    assert (result.verdict, exit_code([result])) == ("complete", 0), result
    aside = there.rows("SELECT reason FROM syncd.quarantine ORDER BY id")
    return set(there.ids()), [row["reason"] for row in aside]


def page(hostile: bytes) -> bytes:
    first, last = (json.dumps(each).encode() for each in GOOD)
    return b'{"people": [' + b",".join([first, hostile, last]) + b'], "next": null}'


KEPT = {
    "right to left": rb'{"id": 7, "name": "\u202egnp.exe"}',
    "non-characters": rb'{"id": 7, "name": "\uffff\ufdd0"}',
    "controls": rb'{"id": 7, "name": "\u0001\u001b[2J"}',
    "an emoji in two escapes": rb'{"id": 7, "name": "\ud83d\ude00"}',
    "ten megabytes": b'{"id": 7, "name": "' + b"x" * 10**7 + b'"}',
    "a name twice": b'{"id": 1, "id": 7}',
    "an integer of 400 digits in a document": b'{"id": 7, "about": ' + b"9" * 400 + b"}",
    "the largest integer": b'{"id": 7, "count": 9223372036854775807}',
    "a float without a point": b'{"id": 7, "ratio": 1}',
    "another field": b'{"id": 7, "unheard_of": {"deep": [1]}}',
    "a null": b'{"id": 7, "name": null, "seen": null}',
    "a field less": b'{"id": 7}',
    "the last moment": b'{"id": 7, "seen": "9999-12-31T23:59:59Z"}',
    "a leap day": b'{"id": 7, "born": "2024-02-29"}',
}
ASIDE = {
    "a NUL in text": rb'{"id": 7, "name": "nul \u0000"}',
    "a NUL in a document": rb'{"id": 7, "about": {"nul": "\u0000"}}',
    "a lone surrogate": rb'{"id": 7, "name": "\ud800"}',
    "the other half of a pair": rb'{"id": 7, "name": "\udc00x"}',
    "bytes that are no UTF-8": b'{"id": 7, "name": "\xff\xfe"}',
    "an integer over 64 bits": b'{"id": 7, "count": 9223372036854775808}',
    "an integer of 5,000 digits": b'{"id": 7, "count": ' + b"9" * 5000 + b"}",
    "a number beyond all floats": b'{"id": 7, "ratio": 1e999}',
    "text for a number": b'{"id": 7, "count": "7"}',
    "a number for text": b'{"id": 7, "name": 7}',
    "an object for text": b'{"id": 7, "name": {"first": "x"}}',
    "a list for an object": b'[{"id": 7}]',
    "an id that became text": b'{"id": "7"}',
    "no id": b'{"name": "nobody"}',
    "a null id": b'{"id": null}',
    "a null": b"null",
    "the thirtieth of February": b'{"id": 7, "born": "2026-02-30"}',
    "the year 0": b'{"id": 7, "born": "0000-00-00"}',
    "the year 300000": b'{"id": 7, "seen": "300000-01-01T00:00:00Z"}',
    "a moment without a zone": b'{"id": 7, "seen": "2026-01-01T00:00:00"}',
}
NO_PAGE = {
    "NaN": b'{"id": 7, "ratio": NaN}',
    "Infinity": b'{"id": 7, "ratio": -Infinity}',
    "a bare NUL": b'{"id": 7, "name": "\x00"}',
    "a comment": b'{"id": 7 /* seven */}',
    "nesting without end": b'{"id": 7, "about": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
}


@pytest.mark.parametrize("name", KEPT)
async def test_what_is_odd_and_can_be_stored_is_stored(dsn: str, name: str) -> None:
    async with census(dsn, PLUGIN) as there:
        assert await walked(there, page(KEPT[name])) == ({1, 2, 7}, [])


@pytest.mark.parametrize("name", ASIDE)
async def test_what_cannot_be_stored_costs_its_record(dsn: str, name: str) -> None:
    async with census(dsn, PLUGIN) as there:
        ids, aside = await walked(there, page(ASIDE[name]))

        assert (ids, len(aside)) == ({1, 2}, 1)
        (row,) = there.rows("SELECT raw, message, pass_id, cursor FROM syncd.quarantine")
        told = ASIDE[name].replace(rb"\ud800", b"\xed\xa0\x80").replace(rb"\udc00", b"\xed\xb0\x80")
        assert bytes(row["raw"]) == told
        assert row["message"]
        assert row["cursor"] == '[{"page":1},null]'
        assert row["pass_id"] == 1


@pytest.mark.parametrize("name", NO_PAGE)
async def test_what_is_no_json_is_no_page_and_its_cursor_is_kept(dsn: str, name: str) -> None:
    async with census(dsn, PLUGIN) as there:
        there.bureau.answers["north", 1] = page(NO_PAGE[name])

        result = await there.run()

        assert result.verdict == "waiting"
        assert [type(e) for e in there.events if isinstance(e, CursorFailed)] != []
        assert there.rows("SELECT state FROM syncd.frontier") == [{"state": "open"}]
        assert there.ids() == []
        there.execute("UPDATE syncd.frontier SET not_before = '-infinity'")
        assert await walked(there, page(b'{"id": 7}')) == ({1, 2, 7}, [])


# types and fields that drift, page after page


@pytest.mark.parametrize("bad", [1, 20, 21, 100])
@pytest.mark.parametrize("drift", ["a type", "a field that is needed"])
async def test_what_drifts_costs_its_records_or_else_its_page(
    dsn: str, drift: str, bad: int
) -> None:
    people: list[Any] = [person(n) for n in range(1, 101)]
    changed = {"a type": {"name": ["first", "last"]}, "a field that is needed": {}}[drift]
    for n in range(bad):
        people[n] = {"id": n + 1, **changed} if changed else {"number": n + 1}
    other = [person(n) for n in range(101, 201)]
    plugin = Plugin(attrs.evolve(STREAM, on_absent="keep"), {"paging": "numbered"})
    async with census(dsn, plugin, north=[people, other]) as there:
        result = await there.run()

        counted = sum(e.count for e in there.events if isinstance(e, RecordsQuarantined))
        if bad <= 20:
            assert (result.verdict, counted) == ("complete", bad)
            assert there.ids() == list(range(bad + 1, 201))
        else:
            assert (result.verdict, counted) == ("waiting", 0)
            assert f"{bad} of 100 records of people would be set aside" in result.message
            assert there.ids() == list(range(101, 201))
            open_pages = "SELECT number FROM syncd.frontier WHERE state = 'open'"
            assert there.rows(open_pages) == [{"number": 1}]


async def test_an_update_time_of_the_year_2999_does_not_freeze_its_row(dsn: str) -> None:
    @attrs.define
    class Dated:
        id: int
        name: str
        updated_at: datetime

    stream = attrs.evolve(STREAM, record=Dated, version="updated_at", on_absent="keep")

    def told(name: str, at: datetime) -> dict[str, Any]:
        return {"id": 1, "name": name, "updated_at": at.isoformat()}

    async with census(dsn, Plugin(stream)) as there:
        for name, year in (("from the future", 2999), ("mended", None)):
            at = datetime(year, 1, 1, tzinfo=UTC) if year else datetime.now(UTC)
            there.bureau.towns["north"] = [[told(name, at)]]
            assert (await there.run()).verdict == "complete"

            assert there.rows("SELECT name FROM census.people") == [{"name": name}]
