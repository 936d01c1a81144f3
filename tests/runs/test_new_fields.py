"""A field that an upstream sends and no record class knows is announced once (P29)."""

from __future__ import annotations

import json

import attrs
from census import STREAM, Census, Plugin, person
from test_absent_rows import census

from syncd.drift import FIELDS_MAX
from syncd.events import FieldUnknown

PLUGIN = Plugin(attrs.evolve(STREAM, on_absent="keep"))


def announced(there: Census) -> set[str]:
    found = [each for each in there.events if isinstance(each, FieldUnknown)]
    assert all((each.instance, each.stream) == ("census", "people") for each in found)
    names = {each.field for each in found}
    assert len(names) == len(found)
    return names


async def test_a_new_field_is_announced_once_whatever_process_meets_it(dsn: str) -> None:
    async with census(dsn, PLUGIN, north=[[1, 2]], south=[[3]]) as there:
        await there.run()
        assert announced(there) == set()
        there.bureau.towns["north"] = [[person(1, phone="canary"), person(2, pet="canary")]]
        there.bureau.towns["south"] = [[person(3, phone="canary")]]
        await there.run_towns("north", "south")  # of a page, the first record is looked at
        assert announced(there) == {"phone"}
        said = repr(there.events)
        there.bureau.towns["north"] = [[person(1, phone="other", email="canary")]]

        await there.run()

        assert announced(there) == {"email"}
        assert "canary" not in said + repr(there.events)
        kept = there.rows("SELECT * FROM syncd.unknown_field")
        assert {row["field"] for row in kept} == {"phone", "email"}


async def test_a_stream_whose_fields_have_no_end_is_announced_to_one(dsn: str) -> None:
    async with census(dsn, PLUGIN) as there:
        for page in range(1, 4):
            new = {f"field {page}.{n:02}": n for n in range(15)}
            people = {"people": [person(page, **new)], "next": page + 1 if page < 3 else None}
            there.bureau.answers["north", page] = json.dumps(people).encode()

        assert (await there.run()).verdict == "complete"
        assert len(announced(there)) == FIELDS_MAX
        there.bureau.answers.clear()
        there.bureau.towns["north"] = [[person(1, late=1)]]

        await there.run()

        assert announced(there) == set()
