"""The database for commands that only ask or mend something: one connection, no heartbeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Concatenate, ParamSpec, TypeVar

import trio

from syncd.config import Config
from syncd.embedded.serving import serving
from syncd.errors import SyncdError
from syncd.events import Event
from syncd.model import Secret
from syncd.store import migrations
from syncd.store.hops import Connection, Hops, Timeouts

P = ParamSpec("P")
T = TypeVar("T")


async def with_database(
    config: Config, main: Callable[[Hops], Awaitable[T]], *, emit: Callable[[Event], None]
) -> T:
    """Run `main` with the configured database, or with the embedded one.

    Raises: what `main` raises of `SyncdError`, `StoreUnavailable`, `StoreRefused`.
    """
    outcome: list[T] = []
    failure: list[SyncdError] = []
    async with trio.open_nursery() as watchdogs:
        try:
            async with AsyncExitStack() as stack:
                hops = _hops(config, await _conninfo(config, stack), emit)
                stack.push_async_callback(hops.aclose)
                await hops.open()
                watchdogs.start_soon(hops.watch)
                outcome.append(await main(hops))
        except SyncdError as error:
            failure.append(error)
        watchdogs.cancel_scope.cancel()
    if failure:
        raise failure[0]
    return outcome[0]


async def with_control_tables(
    config: Config, main: Callable[[Hops], Awaitable[T]], *, emit: Callable[[Event], None]
) -> T:
    """Like `with_database`, and the control tables are this program's version.

    Raises: `IncompatibleSchema` where an operator must migrate them first.
    """

    async def first_the_tables(hops: Hops) -> T:
        # Another's control tables are migrated by `syncd migrate` only: they may be shared.
        own = config.database.url is None
        await hops.run(migrations.migrate if own else migrations.require)
        return await main(hops)

    return await with_database(config, first_the_tables, emit=emit)


def ask_database(
    config: Config,
    work: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run one transaction on the control tables.

    Raises: what `work` raises of `SyncdError`, and as `with_control_tables`.
    """

    async def main(hops: Hops) -> T:
        return await hops.run(work, *args, **kwargs)

    return trio.run(lambda: with_control_tables(config, main, emit=_nobody_listens))


def _nobody_listens(_: Event) -> None:
    """Take an event that a command of one transaction has no use for."""


async def _conninfo(config: Config, stack: AsyncExitStack) -> Secret:
    if config.database.url is not None:
        return config.database.url
    server = await stack.enter_async_context(serving(config.daemon.data_dir))
    return Secret(server.conninfo)


def _hops(config: Config, dsn: Secret, emit: Callable[[Event], None]) -> Hops:
    database = config.database
    return Hops(
        dsn,
        pool_min=1,
        pool_max=1,
        timeouts=Timeouts(
            statement_seconds=database.statement_timeout_seconds,
            lock_seconds=database.lock_timeout_seconds,
            connect_seconds=database.connect_timeout_seconds,
        ),
        emit=emit,
        random=Random(),  # noqa: S311  # jitter, no secrets
    )
