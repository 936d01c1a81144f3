"""A process whose quotas are shared works as any other, and leaves nothing of them behind."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
import valkey_server
from job_world import world

from syncd.config import Sharing
from syncd.daemon import Process, Root
from syncd.errors import ConfigError
from syncd.jobs import run_job
from syncd.model import Secret
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.verdicts import Result


@pytest.fixture(params=["postgres", "redis"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Secret]:
    if request.param == "postgres":
        yield Secret("postgres")
        return
    if valkey_server.program() is None:
        pytest.skip(valkey_server.MISSING)
    with valkey_server.serving() as server:
        yield Secret(server.url)


async def test_a_run_by_shared_quotas_ends_in_the_upstreams_truth(dsn: str, ledger: Secret) -> None:
    async with world(dsn) as there:
        config = attrs.evolve(there.config(), quota=Sharing(ledger))

        async def main(process: Process) -> list[Result]:
            return await run_job(process, config.jobs["cars"], mode="full", wait_seconds=5.0)

        await Root(config, Plugins.load(("cars",)), Observer()).run(main)

        assert there.differences() == {}
        books = there.query("SELECT key, askers FROM syncd.quota")
        wanted = [{"key": "cars:account", "askers": {}}] if ledger.reveal() == "postgres" else []
        assert books == wanted


async def test_an_address_that_is_none_ends_the_process_before_it_begins(dsn: str) -> None:
    async with world(dsn) as there:
        quota = Sharing(Secret("redis://:pass word@[nowhere:70000/x"))
        config = attrs.evolve(there.config(), quota=quota)

        async def main(_: Process) -> None:
            raise AssertionError("it began")

        with pytest.raises(ConfigError, match="is no address of a Redis") as caught:
            await Root(config, Plugins.load(("cars",)), Observer()).run(main)

        assert "pass word" not in str(caught.value)
