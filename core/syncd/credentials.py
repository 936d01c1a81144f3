"""Credentials that are renewed: one refresh at a time, stored before it is used.

A refresh token often works once: what is answered to it is the only key to the account from then
on. So one task of one daemon renews (a lock here, a short lease on the row), what it gets is
committed before anybody uses it, and it is not cut short in between by the end of a run.

One gap is inherent: where the process dies, or the connection breaks, between the provider's
answer and our commit, the provider may take the old refresh token no more. The next refresh is then
refused, and the account waits for a person (``reauth_required``). Where the provider still takes
the old one, nothing is lost: it is what is stored.

The pair before is kept until the new one was let in once, and tried when the new one is refused.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TypeAlias
from uuid import UUID, uuid4

import attrs
import trio

from syncd import closing, sealing
from syncd.errors import (
    ConfigError,
    PluginError,
    SourceError,
    StoreError,
    SyncdError,
    Unauthorized,
    Unavailable,
)
from syncd.events import CredentialPostponed, CredentialRefused, CredentialRenewed, Event
from syncd.http import Badge
from syncd.model import Credential, Secret
from syncd.sealing import Kept
from syncd.store import credentials as store
from syncd.store.credentials import Owner
from syncd.store.hops import Hops
from syncd.vault import Vault

Authorize: TypeAlias = Callable[[Credential], Mapping[str, str | Secret]]
Trade: TypeAlias = Callable[[Credential], Awaitable[Credential]]  # the old one for the next

# A refresh is one small request; what takes longer is an outage. The lease is longer than that and
# the commit after it, so that nobody takes over what is still being done.
RENEW_SECONDS = 30.0
LEASE_SECONDS = 60.0
SAVE_SECONDS = 20.0
CUT_SECONDS = 10.0  # for both, once the run that needed it has been cut

LOOK_SECONDS = 0.25  # between two looks at a row that another daemon is renewing
GIVE_BACK_SECONDS = 3.0
REST_SECONDS = 10.0  # after a refresh that failed: whoever waited for it does not ask once more
_REASON_CHARACTERS_MAX = 300


@attrs.define(eq=False)
class _Entry:
    """What this process knows of one account's credential."""

    owner: Owner
    lock: trio.Lock = attrs.field(factory=trio.Lock)  # around all that asks for another
    kept: Kept | None = None
    unsaved: tuple[int, Credential, bool] | None = None  # got for a version, and not yet committed
    failure: tuple[int, SyncdError] | None = None  # of which version, and why
    failed_at: float = -math.inf


class Credentials:
    """The credentials of all accounts, as far as this process has used them."""

    def __init__(
        self,
        hops: Hops,
        vault: Vault,
        *,
        clock: Callable[[], datetime],
        emit: Callable[[Event], None],
        holder: UUID,
        protect: Callable[[str, Sequence[Secret]], None] = lambda _, __: None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Keep credentials for a process; `protect` keeps an account's tokens out of the log."""
        self.hops = hops
        self.vault = vault
        self.clock = clock
        self.emit = emit
        self.holder = holder
        self.lease_seconds = lease_seconds
        self._protect = protect
        self._entries: dict[Owner, _Entry] = {}

    def bearer(self, owner: Owner, authorize: Authorize) -> Bearer:
        """Return who lets the requests of an account in; its clients share what is known of it."""
        entry = self._entries.setdefault(owner, _Entry(owner))
        return Bearer(self, entry, authorize)

    def protect(self, owner: Owner, tokens: Sequence[Secret]) -> None:
        """Keep an account's tokens out of every line of the log."""
        self._protect(sealing.row_name(owner), tokens)


class Bearer:
    """Lets the requests of one account in (`http.Authority`)."""

    def __init__(self, credentials: Credentials, entry: _Entry, authorize: Authorize) -> None:
        self._all = credentials
        self._entry = entry
        self._authorize = authorize
        self._where = str(entry.owner)
        self._badge: Badge | None = None
        self.trade: Trade | None = None  # set where the connector can renew

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._badge.secrets if self._badge is not None else ()

    async def badge(self) -> Badge:
        """Return what is valid now; asks the database only when it must.

        Raises: `Unauthorized` where a person is needed, or no key opens it; where it has expired,
        what the refresh raises.
        """
        kept = self._entry.kept or await self._loaded()
        due = kept.renew_at is not None and self._all.clock() >= kept.renew_at
        if due and self.trade is not None:
            kept = await self._renewed_early(kept, self.trade)
        return self._worn(kept)

    async def newer(self, refused: Badge) -> Badge | None:
        """Return another than what was refused: what somebody has got meanwhile, or by a refresh.

        Raises: as `badge`.
        """
        kept = self._entry.kept or await self._loaded()
        if kept.version == refused.version and not self._can_renew(kept):
            self._entry.kept = None  # an operator may have brought another
            kept = await self._loaded()
            if kept.version == refused.version:
                return None
        if kept.version == refused.version and self.trade is not None:
            kept = await self._renewed(kept, self.trade)
        return self._worn(kept)

    async def accepted(self, badge: Badge) -> None:
        """Forget the pair before the one that was let in."""
        kept = self._entry.kept
        if kept is None or kept.before is None or kept.version != badge.version:
            return
        self._entry.kept = attrs.evolve(kept, before=None)
        with suppress(StoreError):  # it is then forgotten with the next one
            await self._all.hops.run(store.confirm, self._entry.owner, kept.version)

    def _can_renew(self, kept: Kept) -> bool:
        return self.trade is not None and kept.credential.refresh_token is not None

    def _worn(self, kept: Kept) -> Badge:
        if self._badge is None or self._badge.version != kept.version:
            fields = self._authorize(kept.credential)
            with self._unusable():
                self._badge = Badge.of(
                    self._where, kept.version, fields, *kept.secrets, credential=kept.credential
                )
        return self._badge

    async def _loaded(self) -> Kept:
        """Read what is stored, once for all who ask."""
        entry = self._entry
        async with entry.lock:
            if entry.kept is None:
                row = await self._all.hops.run(store.found, entry.owner)
                entry.kept = self._opened(row)
            return entry.kept

    def _opened(self, row: store.Row | None) -> Kept:
        with self._unusable():
            kept = sealing.opened(self._all.vault, self._entry.owner, row)
        self._all.protect(self._entry.owner, kept.secrets)
        return kept

    @contextmanager
    def _unusable(self) -> Iterator[None]:
        """Take what no key opens, and what cannot be sent, for this account's trouble alone."""
        try:
            yield
        except ConfigError as error:
            raise Unauthorized(self._where, f"{error.where}: {error.what}", error.do) from error

    # --- Renewing ---------------------------------------------------------------------------------

    async def _renewed_early(self, kept: Kept, trade: Trade) -> Kept:
        """Renew what is about to expire; where that fails, it is used as long as it is valid."""
        try:
            return await self._renewed(kept, trade)
        except (SourceError, PluginError, StoreError) as error:
            if isinstance(error, Unauthorized) or not kept.is_valid(self._all.clock()):
                raise
            return kept

    async def _renewed(self, used: Kept, trade: Trade) -> Kept:
        """Return another version than the one that was used, renewing at most once for all."""
        entry = self._entry
        async with entry.lock:
            if entry.kept is not None and entry.kept.version != used.version:
                return entry.kept
            rests = trio.current_time() < entry.failed_at + REST_SECONDS
            if rests and entry.failure is not None and entry.failure[0] == used.version:
                raise entry.failure[1]
            try:
                entry.kept = await self._renewed_by_one(used, trade)
            except SyncdError as error:
                entry.failure, entry.failed_at = (used.version, error), trio.current_time()
                if isinstance(error, Unauthorized):
                    entry.kept = None  # another one is read as soon as it is there
                else:
                    whose = attrs.asdict(entry.owner)
                    self._all.emit(CredentialPostponed(**whose, error=str(error)))
                raise
            return entry.kept

    async def _renewed_by_one(self, used: Kept, trade: Trade) -> Kept:
        """Wait for the lease on the row, or for what its holder gets."""
        token = uuid4()
        while True:
            row = await self._all.hops.run(
                store.lease,
                self._entry.owner,
                version=used.version,
                holder=self._all.holder,
                token=token,
                lease_seconds=self._all.lease_seconds,
            )
            kept = self._opened(row)
            if kept.version != used.version:
                return kept
            assert row is not None  # else it could not be opened
            if row.lease_token == token:
                return await self._under_lease(kept, token, trade)
            await trio.sleep(min(row.lease_seconds or 0.0, LOOK_SECONDS) + 0.01)

    async def _under_lease(self, kept: Kept, token: UUID, trade: Trade) -> Kept:
        """Trade and store, also where the run that needed it is cut: then within a few seconds."""
        done: list[Kept] = []
        failure: SyncdError | None = None
        deadline = closing.deadline(RENEW_SECONDS + SAVE_SECONDS)
        shield = trio.CancelScope(shield=True, deadline=deadline)
        try:
            async with trio.open_nursery() as beside:
                beside.start_soon(_hasten, shield)
                with shield:
                    try:
                        done.append(await self._traded(kept, token, trade))
                    except SyncdError as error:  # not in a group
                        failure = error
                beside.cancel_scope.cancel()
            if not done:
                raise failure or _late(self._where)
        finally:
            if not done:
                with (
                    trio.CancelScope(shield=True, deadline=closing.deadline(GIVE_BACK_SECONDS)),
                    suppress(StoreError),  # else it runs out by itself
                ):
                    await self._all.hops.run(store.release, self._entry.owner, token)
        return done[0]

    async def _traded(self, kept: Kept, token: UUID, trade: Trade) -> Kept:
        entry, whole = self._entry, self._all
        if entry.unsaved is None or entry.unsaved[0] != kept.version:
            try:
                with trio.CancelScope(deadline=trio.current_time() + RENEW_SECONDS) as asking:
                    entry.unsaved = (kept.version, *await _asked(kept, trade))
            except Unauthorized as error:
                return await self._refused(kept, token, error)
            if asking.cancelled_caught:
                raise _late(self._where)
        version, new, of_before = entry.unsaved  # type: ignore[misc]  # mypy: narrowed above
        whole.protect(entry.owner, [*sealing.tokens_of(new), *kept.secrets])
        sealed = sealing.sealed(whole.vault, entry.owner, new)
        row = await whole.hops.run(
            store.renew, entry.owner, sealed, version=version, of_before=of_before
        )
        entry.unsaved = None
        saved = self._opened(row)
        left = new.access_expires_at
        seconds = None if left is None else (left - whole.clock()).total_seconds()
        whose = attrs.asdict(entry.owner)
        whole.emit(CredentialRenewed(**whose, version=saved.version, seconds=seconds))
        return saved

    async def _refused(self, kept: Kept, token: UUID, error: Unauthorized) -> Kept:
        """Note that a person is needed, unless somebody has got another credential meanwhile.

        Raises: `Unauthorized`.
        """
        owner = self._entry.owner
        reason = error.what[:_REASON_CHARACTERS_MAX]
        row = await self._all.hops.run(
            store.refuse, owner, version=kept.version, token=token, reason=reason
        )
        if row is not None and row.state != "ok" and row.version == kept.version:
            self._all.emit(CredentialRefused(owner.instance, owner.account, reason))
        known = self._opened(row)
        if known.version == kept.version:  # the lease ran out, and another daemon is at it
            raise error
        return known


async def _asked(kept: Kept, trade: Trade) -> tuple[Credential, bool]:
    """Trade a credential; where it is refused before it was ever let in, the one before.

    Answers with the next one, and whether it was got for the one before.
    """
    try:
        return await trade(kept.credential), False
    except Unauthorized:
        before = kept.before
        if before is None or before.refresh_token is None:
            raise
        return await trade(before), True


async def _hasten(shield: trio.CancelScope) -> None:
    """Leave what is shielded a few seconds, once what needed it is cut."""
    try:
        await trio.sleep_forever()
    finally:
        shield.deadline = min(shield.deadline, closing.deadline(CUT_SECONDS))


def _late(where: str) -> Unavailable:
    what = f"renewing the credential took over {RENEW_SECONDS:.0f} s"
    return Unavailable(where, what, "nothing to do unless it lasts")
