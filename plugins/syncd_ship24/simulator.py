"""A stand-in for Ship24's tracking API, served over real HTTP.

It keeps to what public sources tell of that API: trackers that the same body names again, bulks
whose items come in any order, limits a second for each endpoint, webhooks that come more than once.
Parcels move where a test, or a line of its input, tells them to. What it answers is decided by
`simulator_answers.Ship24`. It may be a process of its own:

    python -m syncd_ship24.simulator --port 0 --trackers 300
"""

from __future__ import annotations

from urllib.parse import parse_qsl

import trio
from starlette.types import Receive, Scope, Send

from syncd.testing import body_of, live
from syncd_ship24.simulator_answers import (
    API_KEY,
    WEBHOOK_SECRET,
    Asked,
    Call,
    Reply,
    Ship24,
)
from syncd_ship24.simulator_parcels import JOURNEY, Parcel
from syncd_ship24.simulator_webhooks import Webhook

__all__ = ["API_KEY", "JOURNEY", "WEBHOOK_SECRET", "Asked", "Call", "Parcel", "Reply", "Ship24",
           "Simulator", "Webhook"]  # fmt: skip

PREFIX = "/public/v1"  # of all paths, as behind the real host


class Simulator:
    """An ASGI application that answers for the upstream below `/public/v1`."""

    def __init__(self, upstream: Ship24) -> None:
        self.upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        call = Call(
            method=scope["method"],
            path=scope["path"].removeprefix(PREFIX),
            query=dict(parse_qsl(scope["query_string"].decode("ascii", "replace"))),
            headers=headers,
            body=await body_of(receive),
        )
        reply = self.upstream.answer(call)
        if reply.seconds:
            await trio.sleep(reply.seconds)
        await _send(reply, send)


async def _send(reply: Reply, send: Send) -> None:
    fields = {**reply.headers, "content-length": str(len(reply.body))}
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


if __name__ == "__main__":
    from syncd_ship24.simulator_serving import main

    main()
