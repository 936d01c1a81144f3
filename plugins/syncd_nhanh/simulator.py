"""A stand-in for Nhanh.vn's open API v3, served over real HTTP.

It keeps to what public sources tell of that API: pages of customers with an opaque cursor, a token
as it is in `Authorization`, a limit with a lock that calls make longer, errors in bodies. Beyond
that its customers move, and it misbehaves where a test tells it to. It needs nothing of syncd and
can be a process of its own:

    python -m syncd_nhanh.simulator --port 0 --businesses 3 --customers 7500

The token of business 110001 is `token-110001`, and so on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from urllib.parse import parse_qsl

import trio
from starlette.types import Receive, Scope, Send

from syncd_nhanh.simulator_answers import APP_ID, Asked, Fault, Nhanh, Said
from syncd_nhanh.simulator_customers import Customers
from syncd_nhanh.simulator_limit import Limit

__all__ = ["APP_ID", "Customers", "Fault", "Limit", "Nhanh", "Simulator"]


class Simulator:
    """An ASGI application that answers for the upstream; `seconds` is what each call takes."""

    def __init__(
        self, nhanh: Nhanh, *, seconds: float = 0.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.nhanh = nhanh
        self.log: list[Asked] = []
        self._seconds = seconds
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        asked = Asked(
            method=scope["method"],
            path=scope["path"],
            query=dict(parse_qsl(scope["query_string"].decode("ascii", "replace"))),
            authorization=dict(scope["headers"]).get(b"authorization", b"").decode("latin-1"),
            body=await _body(receive),
            at=self._clock(),
        )
        self.log.append(asked)
        said = self.nhanh.answer(asked)
        if self._seconds:
            await trio.sleep(self._seconds)
        await self._send(send, said)

    async def _send(self, send: Send, said: Said) -> None:
        headers = [
            (b"content-type", said.content_type.encode()),
            (b"content-length", str(len(said.body)).encode()),
            (b"date", formatdate(self._clock(), usegmt=True).encode()),
        ]
        await send({"type": "http.response.start", "status": said.status, "headers": headers})
        await send({"type": "http.response.body", "body": said.body, "more_body": False})


async def _body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


async def _live(receive: Receive, send: Send) -> None:
    """Start and stop with the server: there is nothing to prepare or to give back."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    from syncd_nhanh.simulator_serving import main

    main()
