"""The nouns: what plugins declare and hand over, and what the engine passes around.

Everything here is a frozen value. The words are those of the glossary in `core/DESIGN.md`.
"""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import attrs
import msgspec

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

Mode = Literal["full", "incremental", "backfill"]
WriteMode = Literal["upsert", "insert-only", "append"]
Shortcut = Literal["raw", "values", "off"]
CursorKind = Literal["chain", "item"]
Paging = Literal["chain", "numbered"]

Settings = TypeVar("Settings")
Session = TypeVar("Session")


@attrs.frozen(repr=False)
class Secret:
    """A value that never appears in any output; `reveal` hands it to the client that needs it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


# --- What a connector declares -------------------------------------------------------------------


@attrs.frozen
class Rate:
    """So many requests in so many seconds, of which `burst` may leave at once.

    At most `burst + requests` leave in any `per_seconds`: with an announced limit of N in a window,
    `requests + burst - 1` must not be more than N.
    """

    requests: int = attrs.field(validator=attrs.validators.ge(1))
    per_seconds: float = attrs.field(validator=attrs.validators.gt(0))
    burst: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Quota:
    """What an upstream allows one key: the upstream's own scope (app, account, endpoint).

    `concurrency` is the number of requests in flight at once.
    """

    key: str
    rate: Rate | None = None
    concurrency: int = attrs.field(default=8, validator=attrs.validators.ge(1))


@attrs.frozen
class Upstream:
    """How to talk to one account of an upstream: computed from settings by `Connector.upstream`.

    `headers` are sent only to the origin of `base_url` and to `credential_origins`
    (``scheme://host[:port]``): a `next` link or a redirect to any other origin is refused.
    """

    base_url: str
    quotas: tuple[Quota, ...]
    headers: Mapping[str, str | Secret] = attrs.field(factory=dict)
    credential_origins: tuple[str, ...] = ()
    timeout_seconds: float = 60.0  # of one request, from its sending to the last byte of its body
    body_max_bytes: int = 32 * 2**20  # decoded: one hostile body costs at most twice as much
    wire_max_bytes: int = 32 * 2**20  # as sent, compressed or not


@attrs.frozen
class Stream:
    """One table's worth of records.

    `record` is the attrs class that msgspec decodes one record into; `row` is the attrs class the
    transforms end with (default: `record`). The table is derived from `row`: nested attrs classes
    become columns with a prefix (``domain.id`` -> ``domain_id``), lists and mappings jsonb.

    `key` names fields of `row`; with `per_account`, `account_id` stands before them.
    `version` names a field of `row` that orders two states of one record: an integer revision, or
    the moment of the last update; without it the moment the request was sent counts.

    `volatile` names fields of `row` that differ at every look without the record having changed (a
    counter, a signed address): they are stored when something else changes, and are no change.

    `shortcut` says by what an unchanged record is known: ``"values"``, by its row's values (all but
    the volatile ones); ``"raw"``, by its bytes, so that it is not even decoded, where one record
    makes at most one row, none volatile, and the key's fields stand in `record` under the names of
    the columns they become (``domain.id`` for ``domain_id``); ``"off"``, not at all.
    """

    name: str
    record: type[Any]
    key: tuple[str, ...] = ()
    row: type[Any] | None = None
    mode: WriteMode = "upsert"
    version: str | None = None
    per_account: bool = False
    indexes: tuple[tuple[str, ...], ...] = ()
    volatile: tuple[str, ...] = ()
    shortcut: Shortcut = "values"

    @property
    def row_class(self) -> type[Any]:
        return self.row or self.record


@attrs.frozen
class Feed:
    """What is paged: it has the fetch, the quota, the partitions and the passes.

    `paging` is ``"numbered"`` for page numbers without a total: the plugin's first cursor has
    `number` 1, and the core opens the following ones by counting on. Every other style is a
    ``"chain"``: a page opens the cursors it names.

    `paging_version` is raised by the author when cursors of an older version mean something else.
    `pass_max_age_seconds`: how long a pass may be resumed (numbered pages shift: 1 h by default).
    `safety_lag_seconds` is taken off the upstream's clock before it becomes a watermark.

    `conditional`: the upstream answers 304 where nothing changed (RFC 9110 13), and its ETag or
    Last-Modified changes with all that a page is made of (not with an end or a next page that
    stands in a header). Full passes then send the validators of the one before, and an unchanged
    page of one plain request is neither sent nor decoded. `lasting_cursors`: chain cursors mean the
    same in every pass (an offset, no token); without it no validator is kept where there are any.
    """

    name: str
    streams: tuple[Stream, ...]
    quota: str
    paging: Paging = "chain"
    paging_version: int = 1
    incremental: bool = False
    pass_max_age_seconds: float | None = None
    safety_lag_seconds: float = 60.0
    conditional: bool = False
    lasting_cursors: bool = False

    @property
    def resumable_seconds(self) -> float:
        if self.pass_max_age_seconds is not None:
            return self.pass_max_age_seconds
        return 3600.0 if self.paging == "numbered" else 7 * 86400.0


@attrs.frozen
class Connector:
    """The code for one upstream, as its plugin announces it.

    `settings` is an attrs class of what ``[connectors.NAME]`` may hold; `account_settings` of what
    ``[[connectors.NAME.accounts]]`` may hold, `None` where the upstream has no tenants.
    `upstream` is a pure function of (settings, account settings).
    `request_settings` names the settings that shape requests: a change supersedes an open pass.
    """

    name: str
    version: str
    settings: type[Any]
    feeds: tuple[Feed, ...]
    upstream: Callable[[Any, Any], Upstream]
    account_settings: type[Any] | None = None
    request_settings: tuple[str, ...] = ()
    concurrency_variable: str | None = None  # environment variable in place of SYNC_CONCURRENCY

    def feed_of(self, stream: str) -> Feed | None:
        return next((f for f in self.feeds for s in f.streams if s.name == stream), None)


# --- What is configured --------------------------------------------------------------------------


@attrs.frozen
class Account(Generic[Settings]):
    """One tenant of an instance; an instance without tenants has one, named `default`."""

    name: str
    settings: Settings


@attrs.frozen
class Instance(Generic[Settings]):
    """A configured connector: ``[connectors.cars-kr] plugin = "cars"``."""

    name: str
    connector: Connector
    settings: Settings
    accounts: tuple[Account[Any], ...]


@attrs.frozen
class Slice:
    """A part of an account's feed that is leased and walked by itself.

    `name` is ``""`` for the whole feed. `settings` (JSON) shape its requests. A higher `priority`
    is claimed earlier, by that many seconds.
    """

    name: str = ""
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    priority: int = 0


@attrs.frozen
class Partition:
    """Account x feed x slice: what is leased, has a watermark, and is run."""

    instance: str
    account: str
    feed: str
    slice: Slice = attrs.field(factory=Slice)

    def __str__(self) -> str:
        name = f"{self.instance}.{self.feed}"
        marks = [self.account] if self.account != "default" else []
        marks += [self.slice.name] if self.slice.name else []
        return f"{name}[{', '.join(marks)}]" if marks else name


# --- Passes, cursors, pages ----------------------------------------------------------------------


@attrs.frozen
class Cursor:
    """Where one page is. `value` is JSON, at most 8 KiB; the core stores it and never looks inside.

    `number` is the page number of a numbered feed; the pages of one pass share their `value`.
    `kind` is ``"item"`` for what may fail alone (a conversation), ``"chain"`` for what leads on.
    A higher `version` re-opens an item that was closed at a lower one.
    """

    value: JSON
    number: int | None = None
    kind: CursorKind = "chain"
    version: int | None = None


@attrs.frozen
class Request:
    """What a pass is asked for: everything, or what changed since `since` and before `until`."""

    mode: Mode
    since: datetime | None
    until: datetime


@attrs.frozen
class Pass:
    """A plugin's answer to a `Request`: the first cursors. `mode` may be widened to full."""

    mode: Mode
    cursors: tuple[Cursor, ...]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One item of a page as it came: its bytes, and the values its surroundings give.

    `content` is what of the bytes says whether the record changed, where that is not all of them
    (a car's bytes hold its lots). A Struct: ten times as fast to make.
    """

    raw: msgspec.Raw
    parent: Mapping[str, Any] = {}
    content: bytes | None = None


@attrs.frozen
class Page:
    """One answer.

    `records` by stream name: `Record`s, or finished objects of the stream's record class. `opens`:
    the cursors this page names. `end`: the upstream's own marker that nothing follows.
    `date`: the upstream's clock, where it tells it.
    """

    records: Mapping[str, Sequence[Any]]
    opens: tuple[Cursor, ...] = ()
    end: bool = False
    date: datetime | None = None
    total: int | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how many records there are, by stream."""
        return {stream: len(records) for stream, records in self.records.items()}

    @property
    def empty(self) -> bool:
        return not any(self.counts.values())

    def total_records(self, first: str) -> int | None:
        """Estimate the pass's records of all streams, as if every page were like this one."""
        counted = self.counts.get(first, 0)
        if self.total is None or not counted:
            return None
        return round(self.total * sum(self.counts.values()) / counted)


@attrs.frozen
class Response:
    """An upstream's answer that is data: a complete body of an expected status and media type.

    `sent_at` is the moment the answered request left, by the database's clock.
    """

    status: int
    headers: Mapping[str, str]  # names in lower case
    content: bytes
    sent_at: datetime
    date: datetime | None
    url: str  # without query and credentials


class Http(Protocol):
    """The client a plugin fetches with: keeps to the quota, retries, cuts what is hostile."""

    def now(self) -> datetime:
        """Return the moment, by the database's clock."""
        ...

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        quota: str | None = None,
        accept: str = "application/json",
        also: frozenset[int] = frozenset(),
    ) -> Response:
        """Get one resource; `url` is a path below the base URL or an absolute one (a next link).

        `quota` is the key of one of the upstream's quotas (default: its first). `also` are
        statuses beside 2xx that are data here.

        Raises: `Throttled`, `Unavailable`, `Unauthorized`, `Unintelligible`, as their names say.
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


# --- The functions that hooks return -----------------------------------------------------------

Partitions: TypeAlias = Callable[["Context[Any, Any]"], Awaitable[Sequence[Slice]]]
Begin: TypeAlias = Callable[[Partition, Request, datetime], Pass]
Fetch: TypeAlias = Callable[["Context[Any, Any]", Cursor], Awaitable[Page]]
Write: TypeAlias = Callable[[Any, Sequence[Any]], "Written"]
Check: TypeAlias = Callable[["Context[Any, Any]"], Awaitable[str]]


@attrs.frozen
class Transform:
    """A pure function of one record, with a name and a version (both enter the row fingerprint).

    `function` answers with the record to go on with, `None` to drop it, or a list to split it;
    raising anything sends the record to quarantine. Transforms run in ascending `order`.
    """

    name: str
    version: int
    function: Callable[[Any], Any]
    order: int = 0


@attrs.frozen
class Written:
    """What became of a batch's rows in one table."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(*map(operator.add, attrs.astuple(self), attrs.astuple(other)))
