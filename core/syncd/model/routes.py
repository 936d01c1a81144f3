"""Routes: what an upstream tells the daemon by itself (a webhook), and what is made of it."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import attrs

from syncd.model.secret import Secret


@attrs.frozen
class RouteRequest:
    """A request to a route, whole: its body has come to its end, and is as large as may be.

    `path` is what stands behind the instance's prefix, as the `Route` names it. Of parameters and
    header fields that come several times the last one counts. `received_at` is by the database's
    clock: what an event says of its own moment can be bounded by it.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = attrs.field(repr=False)  # names in lower case
    body: bytes = attrs.field(default=b"", repr=False)
    received_at: datetime = attrs.field(kw_only=True)


@attrs.frozen
class RouteAnswer:
    """What a handler makes of a request: the records to be written, and what to say after that.

    `records` by stream, as in a `Page`; they are written as those of a page are, in one
    transaction, and `status` is answered once that is committed. The stream's `version` says
    whether they are newer than what is there; without one the moment the request came counts.

    `event_id` names the event, where the sender repeats it until it is heard: one of the last 30
    days is answered alike, and nothing is written. `account` is whose records they are.

    A `status` of 400 and above writes nothing. A record that cannot be written is set aside, and
    the answer stays the same: its sender would repeat it for ever.
    """

    status: int = 200
    body: bytes = b""
    records: Mapping[str, Sequence[Any]] = attrs.field(factory=dict)
    event_id: str | None = None
    account: str = "default"
    headers: Mapping[str, str] = attrs.field(factory=dict)


RouteHandler: TypeAlias = Callable[[Any, RouteRequest], RouteAnswer]


@attrs.frozen
class Route:
    """A path below ``/plugins/INSTANCE`` that the daemon serves, and the pure function behind it.

    `handler` is `(settings, request) -> RouteAnswer`, called in a thread; it does no I/O. It lets
    nobody in by itself: what proves the sender (a bearer, a signature) is for the handler to check
    before anything else (`bearer_matches`).
    """

    method: str  # GET, POST, PUT, PATCH, DELETE
    path: str  # "/webhook"
    handler: RouteHandler


def bearer_matches(headers: Mapping[str, str], secret: Secret | str) -> bool:
    """Return whether a request brings ``Authorization: Bearer SECRET`` (RFC 6750 2.1).

    It takes as long for a secret that is almost right as for any other of the same length. An
    empty secret matches nothing.
    """
    wanted = secret.reveal() if isinstance(secret, Secret) else secret
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), wanted.encode())
    return same and bool(wanted) and scheme.lower() == "bearer"
