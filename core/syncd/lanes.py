"""One lane: claims the effects of a kind for accounts that do not rest, and has them delivered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import attrs
import trio

from syncd import effects
from syncd.building import Tenant
from syncd.daemon import Process
from syncd.deliverers import Deliverers
from syncd.delivering import CLAIM_MARGIN_SECONDS, Delivery
from syncd.effects import Pace
from syncd.errors import StoreError
from syncd.events import DbUnavailable
from syncd.model import Deliver, EffectKind, Instance
from syncd.store import effects as store
from syncd.store.effects import Claimed
from syncd.waiting import first_of

LOOK_SECONDS = 2.0  # between two looks for what others enqueued, or what is due by now
TURNS_SECONDS = 0.25  # until accounts that had nothing are given precedence again: a look costs


@attrs.define(eq=False)
class Lane:
    """Delivers the effects of one kind that are addressed to one instance."""

    process: Process
    deliverers: Deliverers
    kind: EffectKind
    deliver: Deliver
    over: trio.Event  # nothing is claimed any more
    ended: trio.Event = attrs.field(factory=trio.Event)
    _slots: trio.CapacityLimiter = attrs.field(init=False)
    _paces: defaultdict[str, Pace] = attrs.field(factory=lambda: defaultdict(Pace))  # by account
    _stuck: set[UUID] = attrs.field(factory=set)  # calls that do not heed their cancellation
    _in_turn_until: float = 0.0  # without precedence for anybody
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def __attrs_post_init__(self) -> None:
        self._slots = trio.CapacityLimiter(self.kind.concurrency)

    @property
    def instance(self) -> Instance[Any]:
        return self.deliverers.instance

    @property
    def name(self) -> str:
        return f"{self.instance.name}.{self.kind.name}"

    async def run(self) -> None:
        """Deliver until it is over, and then let calls end that are under way."""
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as calls:
                while not self.over.is_set():
                    heard = self.process.bells.heard(self.kind.name)
                    if not await self._start_one(calls):
                        await self._wait(heard)
        self.ended.set()

    def cut(self) -> None:
        """End the calls under way: what becomes of their effects is for the next process."""
        self._scope.cancel()

    async def _start_one(self, calls: trio.Nursery) -> bool:
        """Claim a bulk where a slot is free, and begin to deliver it."""
        if self._slots.available_tokens < 1:
            return False
        now = trio.current_time()
        paces = {name: self._paces[name] for name in self.deliverers.tenants}
        holders = [each for each in self._slots.statistics().borrowers if isinstance(each, tuple)]
        held = {account for account, _ in holders}
        asking = {account for account, token in holders if token not in self._stuck}
        turns = effects.turns(paces, held=held, asking=asking, now=now)
        if now < self._in_turn_until:
            turns = [*reversed(turns)]
        try:
            for turn in turns:
                kind = attrs.evolve(self.kind, bulk_max=1) if turn.probes else self.kind
                if await self._claimed(turn.accounts, kind, calls):
                    if turn is turns[-1] and now >= self._in_turn_until:
                        self._in_turn_until = now + TURNS_SECONDS
                    return True
        except StoreError as error:
            self.process.emit(DbUnavailable(str(error)))
        return False

    async def _claimed(
        self, accounts: Sequence[str], kind: EffectKind, calls: trio.Nursery
    ) -> bool:
        if not accounts:
            return False
        token = uuid4()
        claimed = await self.process.hops.run(
            store.claim,
            kind,
            instance=self.instance.name,
            accounts=accounts,
            owner=self.process.identity.id,
            token=token,
            claim_seconds=self.kind.deadline_seconds + CLAIM_MARGIN_SECONDS,
        )
        if not claimed:
            return False
        # A slot's holder says for which account it is held.
        self._slots.acquire_on_behalf_of_nowait((claimed[0].account, token))
        calls.start_soon(self._carry_out, claimed, token)
        return True

    async def _carry_out(self, claimed: Sequence[Claimed], token: UUID) -> None:
        account = claimed[0].account
        tenant = self.deliverers.tenants.get(account)
        try:
            if tenant is None:
                await self._hand_back(claimed, token)
            else:
                async with tenant.used():
                    await self._delivery(tenant, token).run(claimed)
        except* Exception as group:  # noqa: BLE001  # a bug of ours: it costs its claim alone
            self.process.supervisor.note(f"delivery of {self.name} for {account}", group)
        finally:
            self._stuck.discard(token)
            self._slots.release_on_behalf_of((account, token))
            self.process.bells.ring([self.kind.name])  # a slot is free, a successor due

    def _delivery(self, tenant: Tenant, token: UUID) -> Delivery:
        return Delivery(
            process=self.process,
            deliverers=self.deliverers,
            kind=self.kind,
            hook=self.deliver,
            tenant=tenant,
            token=token,
            pace=self._paces[tenant.account.name],
            stuck=partial(self._stuck.add, token),
        )

    async def _hand_back(self, claimed: Sequence[Claimed], token: UUID) -> None:
        """Let effects wait whose account left while they were being claimed."""
        fate = effects.given_back("its account left while it was being claimed")
        with suppress(StoreError):  # then the claim runs out
            fates = [(each, fate) for each in claimed]
            await self.process.hops.run(store.record, fates, token=token)

    async def _wait(self, heard: trio.Event) -> None:
        """Wait for a commit or a free slot, the end of an account's rest, a look."""
        now, chance = trio.current_time(), self.process.random.random()
        rests = [pace.rest_until - now for pace in self._paces.values() if pace.rest_until > now]
        with trio.move_on_after(min([LOOK_SECONDS * (0.5 + chance / 2), *rests])):
            await first_of(self.over, heard)
