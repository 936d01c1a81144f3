"""What of a request may be: its bearer, its body, and how it is declined. Little waits here."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

BODY_SECONDS = 10.0  # from the head of a request to the last byte of its body: 1 MiB at 1 Mbit/s
# A body that is too large is read on for a while and thrown away, since a connection that is closed
# while its peer still sends is reset, and the answer lost with it (RFC 9112 9.6).
LINGER_SECONDS = 1.0
LINGER_BYTES = 8 * 2**20


@attrs.frozen
class Declined(Exception):
    """A request is not answered as it wishes; `reason` is for the operator, not for the sender."""

    status: int
    reason: str
    said: str = ""  # to the sender
    retry_after_seconds: int | None = None
    closes: bool = False  # what is left of its body is not read
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def response(self) -> Response:
        """Return what the sender hears."""
        headers = dict(self.headers)
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(self.retry_after_seconds)
        if self.closes:
            headers["connection"] = "close"
        return JSONResponse({"error": self.said or self.reason}, self.status, headers)


async def body_of(request: Request, *, most_bytes: int) -> bytes:
    """Read a body to its end, in time.

    Raises: `Declined`.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise await _too_large(request, most_bytes)
    body = bytearray()
    more = True
    try:
        with trio.fail_after(BODY_SECONDS):
            while more and len(body) <= most_bytes:
                chunk, more = await _chunk(request)
                body += chunk
    except trio.TooSlowError:
        what = f"its body did not come within {BODY_SECONDS:.0f} s"
        raise Declined(408, what, closes=True) from None
    if len(body) > most_bytes:
        raise await _too_large(request, most_bytes, more=more)
    return bytes(body)


async def _chunk(request: Request) -> tuple[bytes, bool]:
    """Return a piece of a body, and whether more of it comes.

    Raises: `Declined` where its sender has left.
    """
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise Declined(400, "its sender left before its body had come", closes=True)
    return message.get("body", b""), message.get("more_body", False)


async def _too_large(request: Request, most_bytes: int, *, more: bool = True) -> Declined:
    left = LINGER_BYTES
    with trio.move_on_after(LINGER_SECONDS):
        while more and left > 0:
            chunk, more = await _chunk(request)
            left -= len(chunk)
    return Declined(413, f"its body is larger than {most_bytes} bytes", closes=True)
