"""One request on its way: what it asks, with which header fields, and how often it was sent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from syncd.http.answer import Expected
from syncd.http.headers import http_date
from syncd.http.limiter import Limiter, Patience
from syncd.http.origin import origin_of, path_of, query_of
from syncd.http.wire import URL
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
    patience: Patience
    sendings: int = 0
    failures: int = 0
    redirects: int = 0
    again: Again | None = None
    sent_at: datetime | None = None  # of the sending that was answered
    condition: Condition | None = None

    @property
    def fields(self) -> Mapping[str, str]:
        """Return the header fields to send."""
        return {**self.headers, **self.condition.fields} if self.condition else self.headers

    def impose(self, condition: Condition | None) -> None:
        """Send a condition if it was told about this request; a 304 is then an answer.

        Not where the connector has said that it takes a 304 itself.
        """
        fits = (
            condition is not None
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
