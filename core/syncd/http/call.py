"""One request on its way: what it asks, with which header fields, and how often it was sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from syncd.http.answer import Expected
from syncd.http.authorization import Badge
from syncd.http.limiter import Limiter, Sender
from syncd.http.masking import longest_first
from syncd.http.origin import origin_of, path_of, query_of
from syncd.http.patience import Patience
from syncd.http.wire import URL, Method, Sent
from syncd.limits.announced import http_date
from syncd.model import LOST, Response
from syncd.validators import Condition, condition_of, request_key


@attrs.frozen
class Again:
    """Why a request is about to be sent again."""

    reason: str
    status: int | None
    since: float


@attrs.define(repr=False)  # its headers and its query hold secrets
class Call:
    """One request through all its sendings."""

    url: URL
    where: str
    expected: Expected
    headers: Mapping[str, str]
    limiter: Limiter
    sender: Sender
    patience: Patience
    method: Method = "GET"
    body: bytes = b""
    once: bool = False  # not sent again once it may have been carried out
    timeout_seconds: float = 60.0
    unread: bool = False  # it may have been carried out, and nobody has read what came of it
    sendings: int = 0
    failures: int = 0
    redirects: int = 0
    again: Again | None = None
    sent_at: datetime | None = None  # the last time
    condition: Condition | None = None
    badge: Badge | None = None  # with which it was sent last
    readmitted: bool = False  # sent once more with a newer one
    paid: Mapping[str, int] = attrs.field(factory=dict)  # what its answer cost, as it tells

    @property
    def sent(self) -> Sent:
        """Return what goes out."""
        fields = {**self.headers, **self.condition.fields} if self.condition else self.headers
        return Sent(self.url, fields, self.method, self.body)

    @property
    def bill(self) -> Mapping[str, int]:
        """Return what its answer cost, or that it may have cost and no answer tells."""
        return {**self.paid, LOST: 1} if self.unread else self.paid

    @property
    def notable(self) -> bool:
        """Return whether validators of the answer would be of the address that was asked for."""
        return self.method == "GET" and not self.redirects

    def response(
        self, status: int, headers: Mapping[str, str], content: bytes, date: datetime | None
    ) -> Response:
        """Return an answer to the last sending."""
        assert self.sent_at is not None  # it was sent, else there were no answer
        url = f"{origin_of(self.url)}{path_of(self.url)}"
        return Response(status, headers, content, sent_at=self.sent_at, date=date, url=url)

    def wear(self, badge: Badge) -> None:
        """Go out with these header fields from now on."""
        if badge is not self.badge:
            self.badge = badge
            self.headers = {**self.headers, **badge.fields}
            self.mask(badge.secrets)

    def mask(self, secrets: tuple[str, ...]) -> None:
        """Let these texts, too, stand in no message about this request."""
        every = longest_first(self.expected.secrets + secrets)
        self.expected = attrs.evolve(self.expected, secrets=every)

    def impose(self, condition: Condition | None) -> None:
        """Send a condition if it was told about this request; a 304 is then an answer.

        Not where the connector has said that it takes a 304 itself.
        """
        fits = (
            condition is not None
            and self.method == "GET"
            and 304 not in self.expected.also
            and condition.request_key == self._key()
        )
        self.condition = condition if fits else None
        self.expected = attrs.evolve(self.expected, unmodified=fits)

    def told(self, headers: Mapping[str, str], date: datetime | None) -> Condition | None:
        """Return the validators that came with an answer to this very request."""
        modified = headers.get("last-modified")
        return condition_of(
            self._key(),
            etag=headers.get("etag"),
            last_modified=modified,
            modified_at=http_date(modified),
            date=date,
        )

    def _key(self) -> bytes:
        address = f"{origin_of(self.url)}{path_of(self.url)}"
        return request_key(address, query_of(self.url), accept=self.expected.accept)
