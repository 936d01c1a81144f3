"""What Ship24 posts by itself: who may post, and the records that a message is made of. Pure.

Facts (docs.ship24.com, "Webhooks"): the secret stands as it is in ``Authorization: Bearer``; the
body is ``{"trackings": [...]}``, of one tracking and one event as a rule. A message comes at least
once, in no order, and again for six days until it is answered with 2xx and no ``"success":false``.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from syncd import Record, RouteAnswer, RouteRequest, Secret, bearer_matches
from syncd_ship24.api import records_of

_JSON = {"content-type": "application/json"}
HEARD = b'{"success":true}'


class _Message(msgspec.Struct, gc=False):
    trackings: list[msgspec.Raw]


_message = msgspec.json.Decoder(_Message)


def heard(secret: Secret | None, request: RouteRequest) -> RouteAnswer:
    """Take a message in: records of both streams, and the id by which it is known again."""
    if secret is None:
        return _said(403, "no webhook_secret is configured")
    if not bearer_matches(request.headers, secret):
        return _said(401, "the secret is not the one that is configured")
    try:
        trackings = _message.decode(request.body).trackings
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _said(400, "the body is no JSON object with trackings")
    records: dict[str, list[Record]] = {"trackers": [], "tracking_events": []}
    ids = []
    for raw in trackings:
        metadata, of_tracking = records_of(raw, received_at=request.received_at)
        ids.append(metadata.message_id)
        for stream, cut in of_tracking.items():
            records[stream] += cut
    return RouteAnswer(200, HEARD, records=records, event_id=_id(ids), headers=_JSON)


def _id(ids: Sequence[str | None]) -> str | None:
    """Return one id for all messages of a request; `None` where one has none."""
    known = [each for each in ids if each]
    if not known or len(known) < len(ids):
        return None
    if len(known) == 1:
        return known[0]
    return blake2b("\n".join(known).encode(), digest_size=16).hexdigest()


def _said(status: int, what: str) -> RouteAnswer:
    return RouteAnswer(
        status, msgspec.json.encode({"success": False, "error": what}), headers=_JSON
    )
