"""The parts of ASGI that every stand-in answers alike (asgi.readthedocs.io, HTTP and lifespan)."""

from __future__ import annotations

from starlette.types import Receive, Send


async def body_of(receive: Receive) -> bytes:
    """Return the whole body of a request."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


async def live(receive: Receive, send: Send) -> None:
    """Start and stop with the server: there is nothing to prepare or to give back."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
