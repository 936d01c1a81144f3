"""Accounts that are added, changed, disabled or removed while a daemon runs.

Each look at the jobs tells a revision of the accounts that the control tables say. Where it differs
from what is known, the accounts of that instance are read anew, and the outfits of its jobs
refitted: what has not changed goes on as it is, runs and all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import trio

from syncd.accounts import Change
from syncd.building import Outfit, Place, effective_of
from syncd.daemon import Process
from syncd.errors import ConfigError
from syncd.events import AccountsChanged, JobHindered
from syncd.rounds import JobState
from syncd.store.leases import Lease


class Following:
    """Keeps the outfits of a daemon in step with the accounts of their instances."""

    def __init__(self, process: Process, outfits: Mapping[str, Outfit]) -> None:
        self._process = process
        self._outfits = outfits
        self._one_at_a_time = trio.Lock()
        self._refused: dict[str, int] = {}  # revisions that do not go with the configuration

    async def follow(self, states: Iterable[JobState]) -> None:
        """Refit what is behind the accounts' revisions, as a look has told them.

        Raises: `StoreError`.
        """
        for state in states:
            outfit = self._outfits[state.name]
            if state.accounts_revision not in (outfit.effective.revision, self._told_of(outfit)):
                await self._refit(outfit)

    async def place(self, outfit: Outfit, lease: Lease) -> Place | None:
        """Return where a leased partition is worked on.

        Another daemon may have heard of an account before this one: it is asked for once more.

        Raises: `StoreError`.
        """
        where = (lease.partition.account, lease.partition.feed)
        if where not in outfit.places:
            await self._refit(outfit)
        return outfit.places.get(where)

    def _told_of(self, outfit: Outfit) -> int | None:
        return self._refused.get(outfit.instance.name)

    async def _refit(self, behind: Outfit) -> None:
        """Read the accounts of one instance anew, for all jobs of it."""
        process, name = self._process, behind.instance.name
        async with self._one_at_a_time:
            was = behind.effective
            theirs = [each for each in self._outfits.values() if each.of(name)]
            now = await effective_of(process, process.config.instances[name], was)
            if now.revision == was.revision:
                return
            try:
                for outfit in theirs:
                    await outfit.refit(process, now)
            except ConfigError as error:
                self._refused[name] = now.revision
                process.emit(JobHindered(behind.job.name, name, str(error)))
                return
        change = Change.between(was, now)
        if change != Change(0, 0, 0):
            process.emit(AccountsChanged(name, **attrs.asdict(change)))
