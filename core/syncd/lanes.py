"""One lane: claims the effects of a kind for accounts that do not rest, and has them delivered."""

from __future__ import annotations

from collections import Counter, defaultdict
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
from syncd.effects import Pace, Turn
from syncd.errors import StoreError
from syncd.events import DbUnavailable
from syncd.model import Deliver, EffectKind, Instance
from syncd.store import effects as store
from syncd.store.effects import Claimed
from syncd.waiting import first_of
from syncd.watchdog import HEED_SECONDS

LOOK_SECONDS = 2.0  # between two looks for what others enqueued, or what is due by now
DEAF = "deliveries"  # why a process drains whose deliveries do not heed their cancellation


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
    _stuck: dict[UUID, float] = attrs.field(factory=dict)  # deaf calls, and since when they are
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
        now = trio.current_time()
        if self._slots.available_tokens < 1:
            self._look_at_the_deaf(now)
            return False
        paces = {name: self._paces[name] for name in self.deliverers.tenants}
        holders = [each for each in self._slots.statistics().borrowers if isinstance(each, tuple)]
        turns = effects.turns(
            paces,
            slots=Counter(account for account, _ in holders),
            asking={account for account, token in holders if token not in self._stuck},
            now=now,
            concurrency=self.kind.concurrency,
        )
        token = uuid4()
        try:
            claimed = await self._claimed(turns, token) if turns else []
        except StoreError as error:
            self.process.emit(DbUnavailable(str(error)))
            return False
        if not claimed:
            return False
        # A slot's holder says for which account it is held.
        self._slots.acquire_on_behalf_of_nowait((claimed[0].account, token))
        calls.start_soon(self._carry_out, claimed, token)
        return True

    async def _claimed(self, turns: Sequence[Turn], token: UUID) -> list[Claimed]:
        return await self.process.hops.run(
            store.claim,
            self.kind,
            instance=self.instance.name,
            turns=turns,
            owner=self.process.identity.id,
            token=token,
            claim_seconds=self.kind.deadline_seconds + CLAIM_MARGIN_SECONDS,
        )

    def _goes_on(self, token: UUID, goes_on: bool) -> None:
        """Take note of a call that does not heed its cancellation, or that did in the end."""
        if goes_on:
            self._stuck[token] = trio.current_time()
        else:
            self._stuck.pop(token, None)

    def _look_at_the_deaf(self, now: float) -> None:
        """Have the process started anew where nothing is delivered any more, and that lasts.

        A plugin may wait for a silent provider in a thread: that ends by itself, if late.
        """
        all_are = len(self._stuck) >= self.kind.concurrency
        if all_are and now - max(self._stuck.values()) >= HEED_SECONDS:
            self.process.drain(DEAF)

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
            self._stuck.pop(token, None)
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
            goes_on=partial(self._goes_on, token),
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
