"""The functions that hooks return, what they are given and what they answer with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import attrs

from syncd.model.configured import Account, Partition, Slice
from syncd.model.credentials import Credential
from syncd.model.effects import Effect, Outcome, Queued
from syncd.model.pages import JSON, Cursor, Page, Pass, Request, Response
from syncd.model.secret import Secret

Settings = TypeVar("Settings")
Session = TypeVar("Session")


class Http(Protocol):
    """The client a plugin fetches with: keeps to the quota, retries, cuts what is hostile."""

    def now(self) -> datetime:
        """Return the moment, by the database's clock."""
        ...

    async def credential(self) -> Credential | None:
        """Return what requests are let in by now (`Upstream.authorize`), renewed where it is due.

        `None` where credentials stand in settings, and for the requests of a refresh.

        Raises: as `get`.
        """
        ...

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        quota: str | None = None,
        cost: Mapping[str, int] | None = None,
        accept: str = "application/json",
        also: frozenset[int] = frozenset(),
    ) -> Response:
        """Get one resource; `url` is a path below the base URL or an absolute one (a next link).

        `quota` is the key of one of the upstream's quotas (default: its first); `cost` what the
        request takes of its windows of other units than requests (``{"tokens": 1200}``). `also`
        are statuses beside 2xx that are data here.

        Raises: `Throttled`, `Unavailable`, `Unauthorized`, `Unintelligible`, as their names say,
        and what the upstream's `judge` finds.
        """
        ...

    async def post(
        self,
        url: str,
        *,
        json: JSON = None,
        form: Mapping[str, str | Secret] | None = None,
        params: Mapping[str, str | int] | None = None,
        quota: str | None = None,
        cost: Mapping[str, int] | None = None,
        accept: str = "application/json",
        also: frozenset[int] = frozenset(),
        idempotent: bool = True,
        timeout_seconds: float | None = None,
    ) -> Response:
        """Read by POST, where an API wants its questions as JSON, or as a form.

        `json` is retried as `get` is, unless it is not `idempotent` (RFC 9110 9.2.2): say so where
        every sending costs, as of a model. A `form` (sent as
        ``application/x-www-form-urlencoded``) never is: think of a refresh. What is not idempotent
        is sent again only where it surely was not carried out: no connection was made, or the
        answer asks to wait (429, or 503 with Retry-After: what names a time for it has not taken it
        up; any other 5xx may come from something before it that lost the answer). Where it may have
        been, and no answer was read, `run.paid` counts it, in the unit ``lost``; in runs only: no
        event tells what deliveries and replays have cost.

        Values of a form that are a `Secret`, or have a secret's name, are masked in messages. A
        redirect is followed where it keeps the method (307, 308). `timeout_seconds` holds for this
        request in place of `Upstream.timeout_seconds`.

        Raises: as `get`, `ValueError` for two bodies or a timeout that is not above zero, too;
        `Unavailable` for one that is not idempotent and whose answer was lost.
        """
        ...


@attrs.frozen
class Context(Generic[Settings, Session]):
    """What a plugin's functions are given."""

    http: Http
    account: Account[Any]
    settings: Settings
    session: Session
    partition: Partition
    request: Request


Partitions: TypeAlias = Callable[["Context[Any, Any]"], Awaitable[Sequence[Slice]]]
Begin: TypeAlias = Callable[[Partition, Request, datetime], Pass]
Fetch: TypeAlias = Callable[["Context[Any, Any]", Cursor], Awaitable[Page]]
Write: TypeAlias = Callable[[Any, Sequence[Any]], "Written"]
Check: TypeAlias = Callable[["Context[Any, Any]"], Awaitable[str]]
Refresh: TypeAlias = Callable[["Context[Any, Any]", Credential], Awaitable[Credential]]
# Answers by `Queued.id`; one that is missing is unknown, and tried again with the same key.
Deliver: TypeAlias = Callable[
    ["Context[Any, Any]", Sequence[Queued]], Awaitable[Mapping[int, Outcome]]
]


@attrs.frozen
class Transform:
    """A pure function of one record, with a name and a version (both enter the row fingerprint).

    `function` answers with the record to go on with, `None` to drop it, or a list to split it;
    raising anything sends the record to quarantine. Transforms run in ascending `order`. In place
    of a record, in a list too, it may answer with a `WithEffects`, of the kinds named in `effects`
    (which enter the row fingerprint as well).
    """

    name: str
    version: int
    function: Callable[[Any], Any]
    order: int = 0
    effects: tuple[str, ...] = ()


@attrs.frozen
class Written:
    """What became of a batch's rows in one table.

    `effects` are what follows from them: a plugin that writes rows itself knows which are new.
    They are enqueued in the same transaction, and must be of kinds that its `Writer` names.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    effects: Sequence[Effect] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many rows there were of each fate."""
        return {name: getattr(self, name) for name in _FATES}

    def __add__(self, other: Written) -> Written:
        return Written(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.stale + other.stale,
            (*self.effects, *other.effects),
        )


_FATES = ("inserted", "updated", "unchanged", "stale")


@attrs.frozen
class Writer:
    """A function that writes a batch's rows, with the kinds of effects that it may return.

    What the hook `write` answers with in place of the bare function::

        def write(connection, rows):
            found = connection.execute(MERGE, ...).fetchall()  # RETURNING id, which are new
            greet = [Effect("mail.greet", f"customer-{each['id']}", {}) for each in found]
            return Written(inserted=len(found), effects=greet)


        @hookimpl
        def write(instance, stream):
            return Writer(write, effects=("mail.greet",)) if stream is CUSTOMERS else None

    `any_order`: it leaves newer rows as they are, also where an older one comes after them. Records
    of the stream that were set aside can then be replayed.
    """

    function: Write
    effects: tuple[str, ...] = ()
    any_order: bool = False
