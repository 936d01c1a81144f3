"""Validators: what an upstream says a page is by, and what such a page stood for.

An upstream that answers a conditional request with 304 says that a page is what it was (RFC 9110
13.1, 15.4.5). What it was is kept beside the validator: how many records it held, and the cursors
it named. Its rows need not be kept: a validator is written only in the commit that wrote them.

Decisions only; `conditional` waits, `http` sends, `store.validators` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b

import attrs
import msgspec

from syncd.model import Cursor, Feed, Mode, Page
from syncd.progress import Wanted

FIELD_MAX_BYTES = 1024  # of an ETag or a Last-Modified: servers are content with a tenth of it
OPENS_MAX_BYTES = 256 * 1024  # some 2,000 cursors: a page that names more is fetched whole
_BIGINT_MAX = 2**63 - 1

# RFC 9110 8.8.3, without the obsolete octets above ASCII: an ETag is sent back as it came.
_ETAG = re.compile(r'(W/)?"[!#-~]*"')


@attrs.frozen(repr=False)  # an upstream may put anything into them
class Condition:
    """The validators of one answer, and the request that they belong to."""

    request_key: bytes
    etag: str | None
    last_modified: str | None

    @property
    def fields(self) -> dict[str, str]:
        """Return the header fields that ask for the page only if it has changed.

        Both where both are known: RFC 9110 13.1.3 lets whoever knows ETags ignore the other.
        """
        named = {"if-none-match": self.etag, "if-modified-since": self.last_modified}
        return {name: value for name, value in named.items() if value is not None}

    def renewed(self, told: Condition | None) -> Condition:
        """Return what holds after a 304 told these validators (RFC 9110 15.4.5)."""
        if told is None:
            return self
        return attrs.evolve(
            self,
            etag=told.etag or self.etag,
            last_modified=told.last_modified or self.last_modified,
        )


@attrs.frozen
class Validator:
    """A page that was committed, by what its upstream knows it again, and what it stood for."""

    condition: Condition
    opens: tuple[Cursor, ...]
    end: bool
    dated: bool  # it told the upstream's clock
    total: int | None
    records: Mapping[str, int]  # by stream

    def page(self, date: datetime | None) -> Unchanged:
        """Return the page that a 304 of this date stands for."""
        return Unchanged(
            records={},
            opens=self.opens,
            end=self.end,
            date=date if self.dated else None,
            total=self.total,
            stored=self.records,
        )


@attrs.frozen
class Unchanged(Page):
    """A page that was not sent, because it is what it was: its rows stand in the tables."""

    stored: Mapping[str, int] = attrs.field(factory=dict, kw_only=True)

    @property
    def counts(self) -> Mapping[str, int]:
        return self.stored


def request_key(address: str, query: str, *, accept: str) -> bytes:
    """Return the 16 bytes that tell one GET from another, whatever the order of its parameters.

    Parameters of one name keep their order, which may mean something. A hash, because a query may
    hold a secret.
    """
    parts = sorted(query.split("&"), key=_parameter_name)  # stable: names repeat
    encoded = msgspec.json.encode(["GET", address, accept, parts])
    return blake2b(encoded, digest_size=16).digest()


def _parameter_name(parameter: str) -> str:
    return parameter.partition("=")[0]


def condition_of(
    key: bytes,
    *,
    etag: str | None,
    last_modified: str | None,
    modified_at: datetime | None,
    date: datetime | None,
) -> Condition | None:
    """Return the validators of an answer that may be asked with; `None` where it has none.

    A Last-Modified has whole seconds: it tells two states apart only where the answer was made at
    least one second later (RFC 9110 8.8.2.2).
    """
    if etag is not None and (len(etag) > FIELD_MAX_BYTES or not _ETAG.fullmatch(etag)):
        etag = None
    settled = (
        modified_at is not None and date is not None and (date - modified_at).total_seconds() >= 1
    )
    if not settled or len(last_modified or "") > FIELD_MAX_BYTES:
        last_modified = None
    if etag is None and last_modified is None:
        return None
    return Condition(key, etag, last_modified)


def fingerprint_of(wanted: Wanted, storage: Mapping[str, int | None], *, settings: str) -> str:
    """Return what a validator holds good under: how rows, cursors and requests are made, and where.

    `settings`, without secrets: a plugin's fetch may read any of them. `storage` are the numbers of
    the files that the tables are kept in: a table that was emptied or made anew has another, and no
    longer the rows that a 304 would stand for.
    """
    made_by = [wanted.row_fingerprints, wanted.request_fingerprint, wanted.connector_version]
    encoded = msgspec.json.encode([made_by, settings, storage], order="sorted")
    return blake2b(encoded, digest_size=16).hexdigest()


def may_keep(feed: Feed, mode: Mode) -> bool:
    """Say whether a pass keeps validators: one whose requests the next pass repeats.

    An incremental pass asks for another window each time. Rows that are only appended are wanted
    again with every pass.
    """
    appended = any(stream.mode == "append" for stream in feed.streams)
    return feed.conditional and mode == "full" and not appended


def kept(
    feed: Feed, cursor: Cursor, page: Page, *, first: bool, condition: Condition | None
) -> Validator | None:
    """Return the validator to keep with a page that was sent; `None` where none would hold good.

    `first`: the cursor is one that the plugin's `begin` names, and so names again.

    A validator is of use where the next pass asks for the same page, and its cursors still mean
    what they meant. An empty page number is always fetched: it may have been a false one.
    """
    if condition is None or not _lasts(feed, cursor, page, first=first):
        return None
    if cursor.number is not None and page.empty:
        return None
    if page.total is not None and not 0 <= page.total <= _BIGINT_MAX:
        return None
    if len(dumped(page.opens)) > OPENS_MAX_BYTES:
        return None
    return Validator(
        condition=condition,
        opens=page.opens,
        end=page.end,
        dated=page.date is not None,
        total=page.total,
        records=page.counts,
    )


def _lasts(feed: Feed, cursor: Cursor, page: Page, *, first: bool) -> bool:
    """Say whether a page's cursor, and those it names, mean the same in the next pass."""
    if feed.lasting_cursors:
        return True
    return (first or _lasting(cursor)) and all(_lasting(each) for each in page.opens)


def _lasting(cursor: Cursor) -> bool:
    return cursor.number is not None or cursor.kind == "item"


def dumped(cursors: tuple[Cursor, ...]) -> str:
    """Return cursors as JSON, to make them again by `loaded`."""
    encoded = [[each.value, each.number, each.kind, each.version] for each in cursors]
    return msgspec.json.encode(encoded).decode()


def loaded(text: str) -> tuple[Cursor, ...]:
    """Return the cursors that `dumped` wrote."""
    return tuple(Cursor(*each) for each in msgspec.json.decode(text))
