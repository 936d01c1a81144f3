"""What a connector declares: its feeds, streams, and how to talk to its upstream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import attrs

from syncd.errors import SourceError
from syncd.model.credentials import Credential
from syncd.model.effects import EffectKind
from syncd.model.pages import Response
from syncd.model.quotas import Quota
from syncd.model.secret import Secret

WriteMode = Literal["upsert", "insert-only", "append"]
Shortcut = Literal["raw", "values", "off"]
OnAbsent = Literal["keep", "mark", "delete"]
Paging = Literal["chain", "numbered"]


@attrs.frozen
class Upstream:
    """How to talk to one account of an upstream: computed from settings by `Connector.upstream`.

    `headers` are sent only to the origin of `base_url` and to `credential_origins`
    (``scheme://host[:port]``): a `next` link or a redirect to any other origin is refused.

    `beside` are other APIs that the connector asks, too (one that extracts, one that translates):
    by origin, the header fields that are sent there, and nothing else of the above. They are asked
    by absolute addresses, through quotas of this upstream, and `judge` and `spent` see their
    answers, which `Response.url` tells apart. No redirect leads there, nor from there elsewhere.

    `judge` is a pure function of every answer, whatever its status, that finds the errors which
    stand in bodies: `Throttled` locks the quota for its `retry_after_seconds`
    (`Response.seconds_until` reads a moment) and is asked again after that, as is a 429;
    `Unavailable` is asked again within the retry budget; `Unauthorized`, `CursorExpired` and
    `Unintelligible` are raised; `None` leaves it at what the status says. The body of an answer
    that is no data comes as far as its first 64 KiB, whatever its media type. `spent` is a pure
    function of an answer that is data: what it has really cost, by unit, as far as it tells.

    `authorize` is a pure function of an account's credential: the header fields of its requests,
    beside `headers`. Where it is set, credentials stand in the vault (``syncd credentials import``)
    and are renewed by what the hook `refresh` returns. A request that is refused (401, 403, or
    `judge` says `Unauthorized`) is sent once more with a newer credential before that is raised.
    """

    base_url: str
    quotas: tuple[Quota, ...]
    headers: Mapping[str, str | Secret] = attrs.field(factory=dict)
    credential_origins: tuple[str, ...] = ()
    beside: Mapping[str, Mapping[str, str | Secret]] = attrs.field(factory=dict)
    timeout_seconds: float = 60.0  # of one request, from its sending to the last byte of its body
    body_max_bytes: int = 32 * 2**20  # decoded: one hostile body costs at most twice as much
    wire_max_bytes: int = 32 * 2**20  # as sent, compressed or not
    judge: Callable[[Response], SourceError | None] | None = None
    spent: Callable[[Response], Mapping[str, int]] | None = None
    authorize: Callable[[Credential], Mapping[str, str | Secret]] | None = None


@attrs.frozen
class Stream:
    """One table's worth of records.

    `record` is the class that msgspec decodes one record into, attrs or (faster) Struct;
    `row` is the one the transforms end with (default: `record`). The table is derived from `row`:
    nested classes become columns (``domain.id`` -> ``domain_id``), lists and mappings jsonb.

    `key` names fields of `row`; with `per_account`, `account_id` stands before them.
    `version` names a field of `row` that orders two states of one record: an integer revision, or
    the moment of the last update; without it the moment the request was sent counts.

    `volatile` names fields of `row` that differ at every look without the record having changed (a
    counter, a signed address): they are stored when something else changes, and are no change.

    `shortcut` says by what an unchanged record is known: ``"values"``, by its row's values (all but
    the volatile ones); ``"raw"``, by its bytes, so that it is not even decoded, where one record
    makes at most one row, none volatile, and the key's fields stand in `record` under the names of
    the columns they become (``domain.id`` for ``domain_id``); ``"off"``, not at all.

    `on_absent` says what becomes of rows whose records the upstream no longer has: ``"keep"``;
    ``"mark"``, the moment stands in `_syncd_absent_at` until the record is back; ``"delete"``. Only
    full passes that ended complete tell, of slices that cover all; page numbers, cursors that last
    (an offset) and slices that share a feed tell only by two such passes in a row. `record` must
    then have the key's fields as for ``"raw"``, and no transform may change the key.

    `redact` names fields of the record as it comes (``owner.email``, through arrays too) whose
    values are kept out of quarantine: of its bytes, and of what is said of them.
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
    on_absent: OnAbsent = "keep"
    redact: tuple[str, ...] = ()

    @property
    def row_class(self) -> type[Any]:
        return self.row or self.record


@attrs.frozen
class Derivation:
    """What a derived stream is made of: one SELECT over other streams of the same instance.

    `select` is one query of PostgreSQL whose columns are those of the stream's row, by name and
    type, one row for each key; ``{providers}`` in it stands for the quoted table of the stream
    `providers`, which `reads` must name. Values travel as `parameters` only, ``%(name)s`` in the
    query; a brace or percent sign of its own is doubled. Where the stream is per account it selects
    the rows of one, which the core names as ``%(account)s``.

    The core makes one statement of it, whatever the number of rows, by the stream's mode:
    ``"upsert"`` writes what is new or differs, ``"insert-only"`` leaves existing rows untouched,
    ``"append"`` adds all rows with each pass.
    """

    select: str
    reads: tuple[str, ...]  # names of streams of the same connector
    parameters: Mapping[str, Any] = attrs.field(factory=dict)


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

    `concurrency` is that of jobs that name its streams and say nothing themselves.
    `concurrency_variable` names the environment variable that sets it in place of the connector's.

    `derived`: its one stream is made from other streams' tables, by what `derive` answers. Such a
    feed has no `begin`, `fetch` and `transform`, asks nothing of the upstream, and takes its turn
    when a pass of a stream it reads has ended, or by its job.
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
    derived: bool = False
    concurrency: int | None = None
    concurrency_variable: str | None = None

    @property
    def shifts(self) -> bool:
        """Return whether a record may be passed over because others moved while pages were read."""
        return self.paging == "numbered" or self.lasting_cursors

    @property
    def of_instance(self) -> bool:
        """Return whether it has one partition for all accounts."""
        return self.derived and not any(stream.per_account for stream in self.streams)

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
    `expires_at` is a pure function of the same: when the credential in an account's settings ends,
    `None` where nobody knows. It is warned of 30 days ahead.
    `effects` are the kinds that its instances deliver, by what the hook `deliver` returns.
    """

    name: str
    version: str
    settings: type[Any]
    feeds: tuple[Feed, ...]
    upstream: Callable[[Any, Any], Upstream]
    account_settings: type[Any] | None = None
    request_settings: tuple[str, ...] = ()
    concurrency_variable: str | None = None  # environment variable in place of SYNC_CONCURRENCY
    expires_at: Callable[[Any, Any], datetime | None] | None = None
    effects: tuple[EffectKind, ...] = ()

    def feed_of(self, stream: str) -> Feed | None:
        return next((f for f in self.feeds for s in f.streams if s.name == stream), None)
