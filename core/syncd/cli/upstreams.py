"""An account's upstream for commands that ask it themselves, whether a database answers or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from random import Random
from typing import Any

import attrs

from syncd.cli.loading import Loaded
from syncd.clock import DatabaseClock
from syncd.events import Event
from syncd.http import Client, FetchHttp, Limiters
from syncd.model import Account, Context, Instance, Partition, Request


@attrs.frozen
class Reach:
    """An upstream with its client, and what the plugin keeps while it is asked."""

    instance: Instance[Any]
    account: Account[Any]
    client: Client
    clock: DatabaseClock
    session: object

    def context(
        self, partition: Partition, request: Request, http: FetchHttp | None = None
    ) -> Context[Any, Any]:
        """Return what a plugin's function is given."""
        return Context(
            http=http or self.client.for_fetch(),
            account=self.account,
            settings=self.instance.settings,
            session=self.session,
            partition=partition,
            request=request,
        )


@asynccontextmanager
async def reached(
    loaded: Loaded,
    instance: Instance[Any],
    account: Account[Any],
    *,
    emit: Callable[[Event], None],
    limiters: Limiters | None = None,
) -> AsyncIterator[Reach]:
    """Open the client of an account, as a run does; its clock is this machine's.

    Accounts that are asked at once share `limiters`.
    """
    random = Random()  # noqa: S311  # jitter, no secrets
    clock = DatabaseClock()
    clock.observe(datetime.now(UTC))  # the database may be out of reach; nothing is stored
    client = Client(
        instance.name if account.name == "default" else f"{instance.name}[{account.name}]",
        instance.upstream(account),
        limiters=limiters or Limiters(random=random),
        emit=emit,
        clock=clock.now,
        random=random,
        scope=instance.name,
    )
    lifespan = loaded.plugins.lifespan(instance) or nullcontext()
    async with client, lifespan as session:
        yield Reach(instance, account, client, clock, session)
