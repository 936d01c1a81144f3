"""The daily second try of accounts whose credential was refused, where a cheap question can be put.

A credential comes back by itself at times: an owner pays, an administrator takes a lock off. The
plugin's check is one request a day; an account that an operator has parked is not asked about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from syncd.asking import checked
from syncd.building import Outfit, Place
from syncd.daemon import Process
from syncd.errors import PluginError, SourceError
from syncd.events import AccountRefused, AccountResumed
from syncd.model import Check, Context, Instance, Request
from syncd.store import parking

LOOK_SECONDS = 600.0  # between two looks at who is due: a try may be so much late


@attrs.frozen
class Resuming:
    """Tries the accounts of some jobs again."""

    process: Process
    outfits: Iterable[Outfit]

    async def try_again(self) -> None:
        """Put the question for every account that is due, and resume those that are let in.

        Raises: `StoreError`.
        """
        places: dict[str, dict[str, Place]] = {}
        instances: dict[str, Instance[Any]] = {}
        for outfit in self.outfits:
            instances[outfit.instance.name] = outfit.instance
            theirs = places.setdefault(outfit.instance.name, {})
            theirs |= {account: place for (account, _), place in outfit.places.items()}
        for name, instance in instances.items():
            check = self.process.plugins.check(instance)
            if check is None:
                continue
            due = await self.process.hops.run(parking.due_again, name, sorted(places[name]))
            for account, reason in due.items():
                await self._try(check, places[name][account], reason)

    async def _try(self, check: Check, place: Place, reason: str) -> None:
        whole, work = place.whole, place.work
        context: Context[Any, Any] = Context(
            http=work.client.for_fetch(),
            account=work.account,
            settings=work.pipeline.instance.settings,
            session=work.session,
            partition=whole,
            request=Request("full", None, self.process.clock.now()),
        )
        try:
            async with place.tenant.used():
                await checked(check, context)
        except (SourceError, PluginError) as error:
            self.process.emit(AccountRefused(whole.instance, whole.account, str(error)))
            return
        if await self.process.hops.run(parking.let_in, whole.instance, whole.account, reason):
            self.process.emit(AccountResumed(whole.instance, whole.account, reason))
