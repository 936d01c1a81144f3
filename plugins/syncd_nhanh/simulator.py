"""A stand-in for Nhanh.vn's open API v3, served over real HTTP.

It keeps to what public sources tell of that API: pages of customers with an opaque cursor, a token
as it is in `Authorization`, a limit with a lock that calls make longer, errors in bodies. Beyond
that its customers move, and it misbehaves where a test tells it to. It needs nothing of syncd and
can be a process of its own:

    python -m syncd_nhanh.simulator --port 8080 --businesses 3 --customers 7500

The token of business 110001 is `token-110001`, and so on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any, cast
from urllib.parse import parse_qsl

import hypercorn.trio
import trio
from hypercorn.config import Config
from starlette.types import Receive, Scope, Send

from syncd_nhanh.simulator_answers import APP_ID, Asked, Fault, Nhanh, Said
from syncd_nhanh.simulator_customers import Customers, with_holes
from syncd_nhanh.simulator_limit import Limit

__all__ = ["APP_ID", "Customers", "Fault", "Limit", "Nhanh", "Simulator"]

FIRST_BUSINESS = 110_001


class Simulator:
    """An ASGI application that answers for the upstream; `seconds` is what each call takes."""

    def __init__(
        self, nhanh: Nhanh, *, seconds: float = 0.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.nhanh = nhanh
        self.public_url = ""  # whoever serves it sets it
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on the loopback interface until a signal ends it."""
    options = _parser().parse_args(arguments)
    count: int = options.customers
    businesses = {
        FIRST_BUSINESS + each: Customers(count, seed=options.seed + each, gone=with_holes(count))
        for each in range(options.businesses)
    }
    nhanh = Nhanh(businesses, at=time.time(), real_statuses=options.real_statuses)
    config = Config()
    config.bind = [f"127.0.0.1:{options.port}"]
    config.include_date_header = False  # the simulator's clock makes the date
    application = cast("Any", Simulator(nhanh, seconds=options.seconds))
    trio.run(hypercorn.trio.serve, application, config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_nhanh.simulator",
        description="Serve a stand-in for Nhanh.vn's open API on the loopback interface.",
    )
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--businesses", type=int, default=1)
    parser.add_argument("--customers", type=int, default=7500, help="of each business")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="that each call takes")
    parser.add_argument(
        "--real-statuses", action="store_true", help="429, 401 and the like in place of 200"
    )
    return parser


if __name__ == "__main__":
    main()
