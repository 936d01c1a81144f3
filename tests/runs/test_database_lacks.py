"""What a server lacks, or refuses, ends the claiming: not one partition after the other fails."""

from __future__ import annotations

import database_facts as facts
from test_chains_and_accounts import THREE_PAGES, office

from syncd.events import DbExhausted, PartitionParked
from syncd.store import parking

TENANTS = [f"tenant-{number}" for number in range(12)]
REFUSING = """
    CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'as the test wants it' USING ERRCODE = '{state}';
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON desk.tickets EXECUTE FUNCTION public.refuse();
"""


async def test_of_many_partitions_no_more_are_claimed_when_the_disk_is_full(dsn: str) -> None:
    async with office(dsn, THREE_PAGES) as world:
        await world.run("first")  # makes the tables
        facts.execute(dsn, REFUSING.format(state="53100"))
        before = len(facts.runs(dsn))
        results = await world.run(*TENANTS)

        assert {result.verdict for result in results} == {"unavailable"}
        assert all("SQLSTATE 53100" in result.message for result in results)
        claimed = len(facts.runs(dsn)) - before
        assert 1 <= claimed < len(TENANTS)
        assert [event for event in world.events if isinstance(event, DbExhausted)]
        waiting = facts.rows(
            dsn, "SELECT 1 FROM syncd.partition WHERE due_at > syncd.clock() + interval '2 minutes'"
        )
        assert len(waiting) >= claimed
        facts.execute(dsn, "DROP TRIGGER refuse ON desk.tickets")
        again = await world.run(*TENANTS)

        assert {result.verdict for result in again} == {"complete"}


async def test_a_refusal_by_configuration_parks_the_partition_until_it_is_resumed(
    dsn: str,
) -> None:
    async with office(dsn, THREE_PAGES) as world:
        await world.run("first")  # makes the tables
        facts.execute(dsn, REFUSING.format(state="42501"))
        (refused,) = await world.run("north")
        parked = [event for event in world.events if isinstance(event, PartitionParked)]
        (again,) = await world.run("north")

        assert (refused.verdict, again.verdict) == ("failed", "failed")
        assert "SQLSTATE 42501" in refused.message
        assert "SQLSTATE 42501" in parked[0].reason
        assert again.message.startswith("parked: ")
        assert [run.status for run in facts.runs(dsn)] == ["complete", "failed"]  # no storm
        facts.execute(dsn, "DROP TRIGGER refuse ON desk.tickets")
        with facts.connect(dsn) as connection:
            assert parking.resume(connection, "desk", None) == 1
        (resumed,) = await world.run("north")

        assert resumed.verdict == "complete"
