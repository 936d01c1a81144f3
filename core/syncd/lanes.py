"""One lane: claims the effects of a kind, delivers them, and records what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import attrs
import msgspec
import trio

from syncd import asking, closing, effects, faults
from syncd.backoff import full_jitter
from syncd.daemon import Process
from syncd.effects import Fate
from syncd.errors import (
    PluginError,
    StoreError,
    SyncdError,
    Throttled,
    Unauthorized,
    Unintelligible,
)
from syncd.events import (
    DbUnavailable,
    EffectDead,
    EffectDelivered,
    EffectLaneDamped,
    EffectRetried,
    PartitionParked,
)
from syncd.http import Client
from syncd.model import (
    Account,
    Context,
    Deliver,
    Delivered,
    EffectKind,
    Instance,
    Outcome,
    Partition,
    Queued,
    Request,
)
from syncd.store import effects as store
from syncd.store import leases
from syncd.store.effects import Claimed
from syncd.waiting import first_of

LOOK_SECONDS = 2.0  # between two looks for what others enqueued, or what is due by now
CLAIM_MARGIN_SECONDS = 30.0  # a claim outlives the deadline of its call by that, to record it
STUCK_SECONDS = 10.0  # past its deadline, a call that was cancelled and did not end is named
RECORD_SECONDS = 5.0  # for what became of the last ones, after that
REST_BASE_SECONDS = 1.0
REST_CAP_SECONDS = 300.0


@attrs.frozen
class Desk:
    """What deliveries for one account work with."""

    account: Account[Any]
    client: Client


@attrs.define(eq=False)
class Lane:
    """Delivers the effects of one kind that are addressed to one instance."""

    process: Process
    instance: Instance[Any]
    kind: EffectKind
    deliver: Deliver
    desks: Mapping[str, Desk]
    session: object
    over: trio.Event  # nothing is claimed any more
    ended: trio.Event = attrs.field(factory=trio.Event)
    _slots: trio.CapacityLimiter = attrs.field(init=False)
    _failures: int = 0  # of whole calls, one after the other
    _rest_until: float = 0.0
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def __attrs_post_init__(self) -> None:
        self._slots = trio.CapacityLimiter(self.kind.concurrency)

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
        if now < self._rest_until or self._slots.available_tokens < 1:
            return False
        token = uuid4()
        try:
            claimed = await self.process.hops.run(
                store.claim,
                # After a failure of a whole call one effect asks whether it has passed.
                attrs.evolve(self.kind, bulk_max=1) if self._failures else self.kind,
                instance=self.instance.name,
                accounts=list(self.desks),
                owner=self.process.identity.id,
                token=token,
                claim_seconds=self.claim_seconds,
            )
        except StoreError as error:
            self.process.emit(DbUnavailable(str(error)))
            return False
        if not claimed:
            return False
        call = _Call(self, self.desks[claimed[0].account], token)
        borrower = object()
        self._slots.acquire_on_behalf_of_nowait(borrower)
        calls.start_soon(self._carry_out, call, claimed, borrower)
        return True

    @property
    def claim_seconds(self) -> float:
        return self.kind.deadline_seconds + CLAIM_MARGIN_SECONDS

    async def _carry_out(self, call: _Call, claimed: Sequence[Claimed], borrower: object) -> None:
        try:
            await call.deliver(claimed)
        finally:
            self._slots.release_on_behalf_of(borrower)
            self.process.bells.ring([self.kind.name])  # a slot is free, a successor due

    async def _wait(self, heard: trio.Event) -> None:
        """Wait for a commit or a free slot, the end of a rest, a look."""
        now = trio.current_time()
        seconds = LOOK_SECONDS * (0.5 + self.process.random.random() / 2)
        resting = self._rest_until - now
        if resting > 0:
            with trio.move_on_after(resting):
                await self.over.wait()
        else:
            with trio.move_on_after(seconds):
                await first_of(self.over, heard)

    def well(self) -> None:
        """Take note of a call that did what it should."""
        self._failures = 0

    def rest(self, error: SyncdError) -> None:
        """Let the kind rest after a call that failed as a whole: each time longer, and say so."""
        self._failures += 1
        seconds = full_jitter(
            self._failures,
            base_seconds=REST_BASE_SECONDS,
            cap_seconds=REST_CAP_SECONDS,
            chance=0.5 + self.process.random.random() / 2,
        )
        if isinstance(error, Throttled):
            seconds = max(seconds, error.retry_after_seconds)
        self._rest_until = trio.current_time() + seconds
        self.process.emit(
            EffectLaneDamped(self.kind.name, self.instance.name, str(error), round(seconds, 3))
        )


@attrs.frozen(eq=False)
class _Call:
    """The delivery of what one claim holds."""

    lane: Lane
    desk: Desk
    token: Any

    async def deliver(self, claimed: Sequence[Claimed]) -> None:
        """Deliver effects and record what became of them; a refused bulk by its halves."""
        kind = self.lane.kind
        worn = [
            (each, Fate("dead", error=f"{why}; last: {each.last_error or 'its process died'}"))
            for each in claimed
            # Its process died with it, so often: whoever delivers it once more may as well.
            if (why := effects.worn_out(kind, attempts=each.attempts - 1, age_seconds=0.0))
        ]
        gone = {each.id for each, _ in worn}
        await self._record(worn)
        parts = [[each for each in claimed if each.id not in gone]]
        while parts:
            part = parts.pop(0)
            refused = await self._deliver_part(part) if part else False
            if refused:
                halves = [part[each] for each in effects.halves(len(part))]
                parts = [*halves, *parts]
            if parts:
                parts = await self._still_ours(parts)

    async def _deliver_part(self, part: Sequence[Claimed]) -> bool:
        """Deliver effects by one call; answer whether they were refused as a whole."""
        started, told = trio.current_time(), False
        queued = [Queued(e.id, e.key, e.payload, e.attempts - 1) for e in part]
        try:
            answer, error = await self._asked(queued)
            told = True
        finally:
            if not told:  # cancelled
                with trio.CancelScope(shield=True, deadline=closing.deadline(RECORD_SECONDS)):
                    await self._give_back(part)
        if isinstance(error, Unintelligible) and len(part) > 1:
            return True
        faults.point("effects_accepted")
        await self._settle(part, answer, error, trio.current_time() - started)
        return False

    async def _asked(
        self, queued: Sequence[Queued]
    ) -> tuple[Mapping[int, Outcome], SyncdError | None]:
        """Ask the plugin; one that does not even end when it is cancelled is named meanwhile."""
        lane = self.lane
        answer: Mapping[int, Outcome] = {}
        failure: SyncdError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, lane.kind.deadline_seconds + STUCK_SECONDS)
            try:
                answer = await asking.delivered(lane.deliver, self._context(), lane.kind, queued)
            except SyncdError as error:
                failure = error
            nursery.cancel_scope.cancel()
        return answer, failure

    async def _watch(self, seconds: float) -> None:
        await trio.sleep(seconds)
        what = f"deliver was cancelled {STUCK_SECONDS:.0f} s ago and goes on: it keeps its slot"
        self.lane.rest(PluginError(self.lane.name, what, "mend the plugin"))

    def _context(self) -> Context[Any, Any]:
        lane = self.lane
        return Context(
            http=self.desk.client.for_fetch(traffic="effect", quota=lane.kind.quota),
            account=self.desk.account,
            settings=lane.instance.settings,
            session=lane.session,
            partition=Partition(lane.instance.name, self.desk.account.name, lane.kind.name),
            request=Request("full", None, lane.process.clock.now()),
        )

    async def _settle(
        self,
        part: Sequence[Claimed],
        answer: Mapping[int, Outcome],
        error: SyncdError | None,
        seconds: float,
    ) -> None:
        lane = self.lane
        if error is None:
            lane.well()
        elif not isinstance(error, Unintelligible):
            lane.rest(error)
        if isinstance(error, Unauthorized):
            await self._park(error)
        fates = []
        for each in part:
            outcome = error or answer.get(each.id, effects.UNKNOWN)
            fates.append((each, self._fate(each, outcome)))
        recorded = await self._record(fates)
        self._tell([(c, f) for c, f in fates if c.id in recorded], seconds)

    def _fate(self, claimed: Claimed, outcome: Outcome | SyncdError) -> Fate:
        response = None
        if isinstance(outcome, Delivered) and outcome.response is not None:
            response = _kept(outcome.response)
        return effects.after(
            outcome,
            self.lane.kind,
            attempts=claimed.attempts,
            age_seconds=claimed.age_seconds,
            chance=self.lane.process.random.random(),
            response=response,
        )

    async def _record(self, fates: Sequence[tuple[Claimed, Fate]]) -> set[int]:
        """Record fates. Where the database is away the claims run out, and all is tried again."""
        if not fates:
            return set()
        mask = self.desk.client.mask
        clean = [
            (
                c,
                attrs.evolve(
                    f, error=f.error and mask(f.error), response=f.response and mask(f.response)
                ),
            )
            for c, f in fates
        ]
        process = self.lane.process
        try:
            recorded = await process.hops.run(store.record, clean, token=self.token)
        except StoreError as error:
            process.emit(DbUnavailable(str(error)))
            return set()
        for each, fate in clean:
            if fate.state == "dead" and each.id in recorded:
                self._tell_death(each, fate)
        return recorded

    async def _give_back(self, part: Sequence[Claimed]) -> None:
        """Let whoever comes next try at once, for this process ends."""
        fate = effects.given_back("its process stopped while it was being delivered")
        await self._record([(each, fate) for each in part])

    async def _still_ours(self, parts: list[list[Claimed]]) -> list[list[Claimed]]:
        """Lengthen the claim on what is left; what is another's by now is left to it."""
        ids = [each.id for part in parts for each in part]
        renew = partial(store.renew, token=self.token, claim_seconds=self.lane.claim_seconds)
        try:
            ours = await self.lane.process.hops.run(renew, ids)
        except StoreError:
            return []
        left = [[each for each in part if each.id in ours] for part in parts]
        return [part for part in left if part]

    async def _park(self, error: Unauthorized) -> None:
        process, instance, account = self.lane.process, self.lane.instance.name, self.desk.account
        with suppress(StoreError):  # then the next call is refused as well
            await process.hops.run(leases.park_account, instance, account.name, str(error))
            where = str(Partition(instance, account.name, "*"))
            process.emit(PartitionParked(where, str(error)))

    def _tell(self, fates: Sequence[tuple[Claimed, Fate]], seconds: float) -> None:
        emit, kind, instance = self.lane.process.emit, self.lane.kind.name, self.lane.instance.name
        account = self.desk.account.name
        delivered = sum(fate.state == "delivered" for _, fate in fates)
        if delivered:
            emit(EffectDelivered(kind, instance, account, delivered, round(seconds, 4)))
        again = [fate for _, fate in fates if fate.state == "pending"]
        if again:
            emit(EffectRetried(kind, instance, account, len(again), again[0].error or ""))

    def _tell_death(self, each: Claimed, fate: Fate) -> None:
        lane = self.lane
        lane.process.emit(
            EffectDead(
                kind=lane.kind.name,
                instance=lane.instance.name,
                account=self.desk.account.name,
                effect=each.id,
                key=each.key,
                reason=fate.error or "",
            )
        )


def _kept(response: Any) -> str | None:
    """Return an answer as JSON, nothing where that cannot be said: it was delivered even so."""
    try:
        encoded = msgspec.json.encode(response).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return None if "\\u0000" in encoded else encoded
