"""A constraint that is checked at COMMIT costs the records it objects to, and no other."""

from __future__ import annotations

import pytest
from database import connect
from ticket_desk import Desk, Office

from syncd.events import RecordsQuarantined

FIRST_MESSAGE = (
    "ALTER TABLE desk.tickets ADD COLUMN first bigint GENERATED ALWAYS AS (id * 10) STORED, "
    "ADD CONSTRAINT first_is_there FOREIGN KEY (account_id, first) "
    "REFERENCES desk.messages (account_id, id) DEFERRABLE INITIALLY DEFERRED"
)
ONE_TEXT = (
    "ALTER TABLE desk.messages ADD CONSTRAINT one_text UNIQUE (text) DEFERRABLE INITIALLY DEFERRED"
)


def do(dsn: str, statement: str) -> None:
    with connect(dsn) as connection:
        connection.execute(statement.encode())
        connection.commit()


def ids(dsn: str, table: str) -> set[int]:
    with connect(dsn) as connection:
        return {row["id"] for row in connection.execute(f"SELECT id FROM desk.{table}".encode())}


def messages_of(number: int) -> list[dict[str, object]]:
    return [{"id": number * 10 + each, "text": f"{number}.{each}"} for each in range(2)]


@pytest.mark.parametrize(
    ("constraint", "table"), [(FIRST_MESSAGE, "tickets"), (ONE_TEXT, "messages")]
)
async def test_what_only_the_commit_refuses_is_set_aside_alone(
    dsn: str, constraint: str, table: str
) -> None:
    """Tickets are written before the messages that theirs must name: that is no offence."""
    desk = Desk({0: ([1, 2], None)})
    desk.messages = {number: messages_of(number) for number in range(1, 41)}
    async with desk.serve() as base_url:
        there = Office(dsn, desk, base_url)
        await there.run("north")
        do(dsn, constraint)
        desk.searches = {0: (range(1, 41), None)}
        desk.messages[7] = [{"id": 71, "text": "1.1"}]  # no first message, and another's text

        (result,) = await there.run("north")

    culprit = {7} if table == "tickets" else {71}
    everything = {
        "tickets": set(range(1, 41)),
        "messages": {m * 10 + n for m in range(1, 41) for n in (0, 1)} - {70},
    }
    assert result.verdict == "complete", result
    for name, those in everything.items():
        assert ids(dsn, name) == (those - culprit if name == table else those)
    aside = [each for each in there.events if isinstance(each, RecordsQuarantined)]
    assert [(each.stream, each.count, each.reason) for each in aside] == [(table, 1, "refused")]


async def test_a_deferred_constraint_of_a_table_that_is_not_ours_parks_the_partition(
    dsn: str,
) -> None:
    """There is no record of ours to set aside."""
    desk = Desk({0: ([1], None)})
    async with desk.serve() as base_url:
        there = Office(dsn, desk, base_url)
        await there.run("north")
        do(dsn, "CREATE TABLE desk.log (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        do(dsn, "INSERT INTO desk.log VALUES ('again')")
        do(
            dsn,
            "CREATE FUNCTION desk.note() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN INSERT INTO desk.log VALUES ('again'); RETURN NULL; END$$",
        )
        do(
            dsn,
            "CREATE TRIGGER note AFTER INSERT ON desk.tickets FOR EACH ROW "
            "EXECUTE FUNCTION desk.note()",
        )
        desk.searches = {0: ([1, 2, 3], None)}

        (result,) = await there.run("north")

    assert result.verdict == "failed", result
    with connect(dsn) as connection:
        (row,) = connection.execute("SELECT state FROM syncd.partition").fetchall()
    assert row["state"] == "parked"
    assert "23505" in result.message
    assert ids(dsn, "tickets") == {1}
