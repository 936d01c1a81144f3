"""The delivery of what one claim holds: the hook is called, and what became of each is recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import attrs
import msgspec
import trio

from syncd import asking, closing, effects, faults
from syncd.building import Tenant
from syncd.daemon import Process
from syncd.deliverers import Deliverers
from syncd.effects import Fate, Pace
from syncd.errors import (
    PluginError,
    StoreError,
    StoreRefused,
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
from syncd.model import (
    Context,
    Deliver,
    Delivered,
    EffectKind,
    Outcome,
    Partition,
    Queued,
    Request,
)
from syncd.store import effects as store
from syncd.store import leases
from syncd.store.effects import Claimed

CLAIM_MARGIN_SECONDS = 30.0  # a claim outlives the deadline of its call by that, to record it
STUCK_SECONDS = 10.0  # past its deadline, a call that was cancelled and did not end is named
RECORD_SECONDS = 5.0  # for what became of the last ones, when they are cut

Fated = Sequence[tuple[Claimed, Fate]]


@attrs.define
class _Reply:
    """What a call came to, once it has."""

    answer: Mapping[int, Outcome] = attrs.field(factory=dict)
    error: SyncdError | None = None
    came: bool = False


@attrs.define(eq=False)
class Delivery:
    """Delivers what one claim holds, all of one account."""

    process: Process
    deliverers: Deliverers
    kind: EffectKind
    hook: Deliver
    tenant: Tenant
    token: UUID
    pace: Pace  # of the account
    goes_on: Callable[[bool], None]  # whether a call does, though it was cancelled
    _open: dict[int, Claimed] = attrs.field(factory=dict, init=False)  # nothing is recorded of them
    _given_up: bool = attrs.field(default=False, init=False)  # it went on, and was failed already
    _taken: bool = attrs.field(default=False, init=False)  # a call was answered

    async def run(self, claimed: Sequence[Claimed]) -> None:
        """Deliver effects and record what became of them; a refused bulk by its halves.

        What is not delivered when it is cut, or where nothing can be, is given back.
        """
        self._open = {each.id: each for each in claimed}
        why = "its process stopped while it was being delivered"
        try:
            await self._bury(claimed)
            parts = deque(effects.parts([*self._open.values()]))
            while parts:
                part = parts.popleft()
                if await self._deliver(part):
                    parts.extendleft(part[each] for each in reversed(effects.halves(len(part))))
                if parts:
                    parts = await self._still_ours(parts)
            why = "another one failed in a way that all may, and this one was not tried"
        finally:
            if self._open:
                with trio.CancelScope(shield=True, deadline=closing.deadline(RECORD_SECONDS)):
                    await self._give_back(why)

    async def _bury(self, claimed: Sequence[Claimed]) -> None:
        """Record the death of those with which processes died so often that the next one may."""
        worn = [
            (each, Fate("dead", error=f"{why}; last: {each.last_error or 'its process died'}"))
            for each in claimed
            if (why := effects.worn_out(self.kind, attempts=each.attempts - 1, age_seconds=0.0))
        ]
        await self._record(worn)

    async def _deliver(self, part: Sequence[Claimed]) -> bool:
        """Deliver effects by one call; answer whether its halves are to be tried."""
        started, reply, is_cut = trio.current_time(), _Reply(), True
        try:
            await self._ask(part, reply)
            is_cut = False
        finally:
            if is_cut and reply.came:  # in the same moment: it is recorded even so
                with trio.CancelScope(shield=True, deadline=closing.deadline(RECORD_SECONDS)):
                    await self._take(part, reply, started)
        return await self._take(part, reply, started)

    async def _take(self, part: Sequence[Claimed], reply: _Reply, started: float) -> bool:
        """Settle what a call came to, unless its halves are to be tried: answer with that."""
        if isinstance(reply.error, Unintelligible) and len(part) > 1:
            return True
        faults.point("effects_accepted")
        await self._settle(part, reply, started)
        return False

    async def _ask(self, part: Sequence[Claimed], reply: _Reply) -> None:
        """Ask the plugin; one that does not even end when it is cancelled is named meanwhile."""
        self._given_up = False
        queued = [Queued(e.id, e.key, e.payload, e.attempts - 1) for e in part]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, part)
            try:
                reply.answer = await asking.delivered(self.hook, self._context(), self.kind, queued)
            except SyncdError as error:
                reply.error = error
            reply.came = True
            if self._given_up:
                self.goes_on(False)
            nursery.cancel_scope.cancel()

    async def _watch(self, part: Sequence[Claimed]) -> None:
        """Take a call for failed that does not end: it keeps its slot, and nothing else."""
        await trio.sleep(self.kind.deadline_seconds + STUCK_SECONDS)
        what = f"deliver was cancelled {STUCK_SECONDS:.0f} s ago and goes on: it keeps its slot"
        where = f"{self.deliverers.instance.name}.{self.kind.name}"
        error = PluginError(where, what, "mend the plugin")
        self.rest(error, started=trio.current_time())
        self._given_up = True
        self.goes_on(True)
        # Its provider may be silent, and the plugin wait for it in a thread.
        blamed = len(part) == 1 and self.pace.suspects(part[0].id)
        fates = [(each, self._fate(each, error, blamed)) for each in part]
        recorded = await self._record(fates)
        self._tell([(c, f) for c, f in fates if c.id in recorded], seconds=0.0)

    def _context(self) -> Context[Any, Any]:
        instance, account = self.deliverers.instance, self.tenant.account
        return Context(
            http=self.tenant.client.for_fetch(traffic="effect", quota=self.kind.quota),
            account=account,
            settings=instance.settings,
            session=self.deliverers.session,
            partition=Partition(instance.name, account.name, self.kind.name),
            request=Request("full", None, self.process.clock.now()),
        )

    # -- what became of them -------------------------------------------------------------------

    async def _settle(self, part: Sequence[Claimed], reply: _Reply, started: float) -> None:
        error, blamed = reply.error, True
        if error is None:
            self._taken = True
            self.pace.well()
        elif self._given_up:
            pass  # that was said when it went on
        elif not isinstance(error, Unintelligible):
            self.rest(error, started=started)
        elif not self._taken:
            # One alone was refused, and nothing of this claim was taken. It may be the one that is
            # wrong; where others were refused like it, it is their provider.
            blamed = self.pace.suspects(part[0].id)
            self.rest(error, started=started)
        seconds = trio.current_time() - started
        fates = [(e, self._fate(e, error or reply.answer.get(e.id), blamed)) for e in part]
        recorded = await self._record(fates)
        if isinstance(error, Unauthorized):
            await self._park(error)
        self._tell([(c, f) for c, f in fates if c.id in recorded], seconds)

    def rest(self, error: SyncdError, *, started: float) -> None:
        """Let the account rest after a call that failed as a whole, and say so."""
        seconds = self.pace.failed(
            started_at=started,
            now=trio.current_time(),
            chance=self.process.random.random(),
            least_seconds=error.retry_after_seconds if isinstance(error, Throttled) else 0.0,
        )
        instance = self.deliverers.instance.name
        self.process.emit(EffectLaneDamped(self.kind.name, instance, str(error), round(seconds, 3)))

    def _fate(self, claimed: Claimed, outcome: Outcome | SyncdError | None, blamed: bool) -> Fate:
        response = None
        if isinstance(outcome, Delivered) and outcome.response is not None:
            response = _kept(outcome.response)
        return effects.after(
            effects.UNKNOWN if outcome is None else outcome,
            self.kind,
            attempts=claimed.attempts,
            age_seconds=claimed.age_seconds,
            chance=self.process.random.random(),
            response=response,
            blamed=blamed,
        )

    async def _record(self, fates: Fated) -> set[int]:
        """Record fates. Where the database is away the claims run out, and all is tried again."""
        if not fates:
            return set()
        for claimed, _ in fates:
            self._open.pop(claimed.id, None)
        clean = [(claimed, self._masked(fate)) for claimed, fate in fates]
        recorded: set[int] | None = None
        try:
            recorded = await self._put(clean)
        finally:
            if recorded is None:  # cut: once more, and that is not cut
                with trio.CancelScope(shield=True, deadline=closing.deadline(RECORD_SECONDS)):
                    recorded = await self._put(clean)
        for each, fate in clean:
            if fate.state == "dead" and each.id in recorded:
                self._tell_death(each, fate)
        return recorded

    async def _put(self, fates: Fated) -> set[int]:
        run, record = self.process.hops.run, partial(store.record, token=self.token)
        try:
            try:
                return await run(record, fates)
            except StoreRefused:  # what a provider said cannot be stored; that it took them can
                return await run(record, [(c, attrs.evolve(f, response=None)) for c, f in fates])
        except StoreError as error:
            self.process.emit(DbUnavailable(str(error)))
            return set()

    def _masked(self, fate: Fate) -> Fate:
        mask = self.tenant.client.mask
        return attrs.evolve(
            fate,
            error=fate.error and mask(fate.error),
            response=fate.response and mask(fate.response),
        )

    async def _give_back(self, why: str) -> None:
        """Let whoever comes next try at once."""
        fate = effects.given_back(why)
        await self._record([(each, fate) for each in self._open.values()])

    async def _still_ours(self, parts: deque[Sequence[Claimed]]) -> deque[Sequence[Claimed]]:
        """Lengthen the claim on what is left; what is another's by now is left to it.

        Nothing is left where the last call was refused and so may all that follow.
        """
        if self.pace.failures and not self._taken:
            return deque()
        ids = [each.id for part in parts for each in part]
        seconds = self.kind.deadline_seconds + CLAIM_MARGIN_SECONDS
        renew = partial(store.renew, token=self.token, claim_seconds=seconds)
        try:
            ours = await self.process.hops.run(renew, ids)
        except StoreError:
            return deque()
        left = ([each for each in part if each.id in ours] for part in parts)
        return deque(part for part in left if part)

    async def _park(self, error: Unauthorized) -> None:
        instance, account = self.deliverers.instance.name, self.tenant.account.name
        with suppress(StoreError):  # then the next call is refused as well
            await self.process.hops.run(leases.park_account, instance, account, str(error))
            where = str(Partition(instance, account, "*"))
            self.process.emit(PartitionParked(where, str(error)))

    def _tell(self, fates: Fated, seconds: float) -> None:
        emit, kind, instance = self.process.emit, self.kind.name, self.deliverers.instance.name
        account = self.tenant.account.name
        delivered = sum(fate.state == "delivered" for _, fate in fates)
        if delivered:
            emit(EffectDelivered(kind, instance, account, delivered, round(seconds, 4)))
        again = [fate for _, fate in fates if fate.state == "pending"]
        if again:
            emit(EffectRetried(kind, instance, account, len(again), again[0].error or ""))

    def _tell_death(self, each: Claimed, fate: Fate) -> None:
        self.process.emit(
            EffectDead(
                kind=self.kind.name,
                instance=self.deliverers.instance.name,
                account=self.tenant.account.name,
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
