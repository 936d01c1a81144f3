"""The parts of ASGI that every stand-in answers alike (asgi.readthedocs.io, HTTP and lifespan)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

import attrs
import msgspec
import trio
from starlette.types import Receive, Scope, Send


@attrs.frozen
class Call:
    """One request; `path` as it stands behind the base URL, header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""


@attrs.frozen
class Reply:
    """One answer, which is on its way for `seconds`."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Answering(Protocol):
    """What answers for an upstream, without waiting."""

    def answer(self, call: Call) -> Reply: ...


class Application:
    """An ASGI application around what answers, below a prefix of all paths."""

    def __init__(self, upstream: Answering, *, prefix: str = "") -> None:
        self._upstream = upstream
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        if scope["type"] != "http":
            return
        query = parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
        call = Call(
            method=scope["method"],
            path=scope["path"].removeprefix(self._prefix),
            query=dict(query),
            headers=headers_of(scope),
            body=await body_of(receive),
        )
        await send_reply(self._upstream.answer(call), send)


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the header fields of a request, names in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def body_of(receive: Receive) -> bytes:
    """Return the whole body of a request."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


async def send_reply(reply: Reply, send: Send) -> None:
    """Send an answer, when its time has come."""
    if reply.seconds:
        await trio.sleep(reply.seconds)
    fields = {**reply.headers, "content-length": str(len(reply.body))}
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def live(receive: Receive, send: Send) -> None:
    """Start and stop with the server: there is nothing to prepare or to give back."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
