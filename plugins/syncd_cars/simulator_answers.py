"""Write answers of the simulated upstream: proper ones, and each fault in its own way."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache

import trio
from starlette.types import Receive, Send

from syncd_cars.simulator_faults import Fault, FaultKind

JSON = "application/json"
HTML = "text/html; charset=UTF-8"

_CHUNK = b" " * 2**16
_WEB_PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"
_NO_RECORDS = b'{"data":[', b'],"links":{"next":null},"meta":{}}'
_GZIP_HEADER = gzip.compress(b"", mtime=0)[:10]  # no name, no time (RFC 1952)
_END_OF_RECORDS = b'],"links":'


class Reply:
    """Writes one response; every response carries `Date`."""

    def __init__(self, send: Send, *, date: str) -> None:
        self._send = send
        self._date = date

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send status and headers."""
        raw = [(name.encode(), value.encode()) for name, value in (("date", self._date), *headers)]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def part(self, body: bytes) -> None:
        """Send some of the body; more follows."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        """Complete the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = JSON,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Send a complete response."""
        length = ("content-length", str(len(body)))
        await self.start(status, (("content-type", content_type), length, *headers))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


async def until_gone(receive: Receive, answer: Callable[[], Awaitable[None]]) -> None:
    """Run `answer` until it is done or the client has closed the connection."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_when_gone, receive, nursery.cancel_scope)
        await answer()
        nursery.cancel_scope.cancel()


async def _cancel_when_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def status_of(fault: Fault) -> int:
    """Return the status that a fault is answered with; 0 means no answer at all."""
    match fault.kind:
        case FaultKind.SERVER_ERROR:
            return fault.status
        case FaultKind.TOO_MANY_REQUESTS:
            return 429
        case FaultKind.REDIRECT:
            return 302
        case FaultKind.STALL:
            return 0
        case _:
            return 200


async def misbehave(reply: Reply, fault: Fault, genuine: Callable[[], bytes]) -> None:
    """Answer with `fault`; `genuine` renders the page that was asked for.

    An empty page and a 429 are ordinary answers at the wrong time: they are not answered here.
    """
    match fault.kind:
        case FaultKind.BROKEN_JSON:
            await reply.whole(200, _broken(genuine()))
        case FaultKind.HALF_JSON:
            page = genuine()
            await reply.whole(200, page[: len(page) // 2])
        case FaultKind.CUT_BODY:
            await _cut(reply, genuine())
        case FaultKind.HTML:
            await reply.whole(200, _WEB_PAGE, content_type=HTML)
        case FaultKind.SERVER_ERROR:
            await reply.whole(fault.status, b'{"message":"Server Error"}')
        case FaultKind.DRIP:
            await _drip(reply, genuine(), fault.delay_seconds)
        case FaultKind.HUGE_BODY:
            await _huge(reply, fault.size_bytes)
        case FaultKind.GZIP_BOMB:
            bomb = await trio.to_thread.run_sync(gzip_bomb, fault.size_bytes)
            await reply.whole(200, bomb, headers=[("content-encoding", "gzip")])
        case FaultKind.STALL:
            await trio.sleep_forever()
        case FaultKind.REDIRECT:
            await reply.whole(302, b"", content_type=HTML, headers=[("location", fault.location)])
        case _:
            message = f"car simulator: {fault.kind} is no misbehaviour; answer it as a page"
            raise ValueError(message)


def _broken(page: bytes) -> bytes:
    """Put a syntax error behind the records, where a reader has already seen them all."""
    end = page.rindex(_END_OF_RECORDS)
    return page[:end] + b",," + page[end:]


async def _cut(reply: Reply, page: bytes) -> None:
    """Send half of what was announced and end: the server then closes the connection."""
    await reply.start(200, [("content-type", JSON), ("content-length", str(len(page)))])
    await reply.part(page[: len(page) // 2])


async def _drip(reply: Reply, page: bytes, delay_seconds: float) -> None:
    await reply.start(200, [("content-type", JSON), ("content-length", str(len(page)))])
    for position in range(len(page)):
        await reply.part(page[position : position + 1])
        await trio.sleep(delay_seconds)
    await reply.end()


async def _huge(reply: Reply, size_bytes: int) -> None:
    """Send a page whose list of records is `size_bytes` of spaces; its length is not announced."""
    before, after = _NO_RECORDS
    await reply.start(200, [("content-type", JSON)])
    await reply.part(before)
    for start in range(0, size_bytes, len(_CHUNK)):
        await reply.part(_CHUNK[: size_bytes - start])
    await reply.part(after)
    await reply.end()


@lru_cache(maxsize=2)
def gzip_bomb(size_bytes: int) -> bytes:
    """Return a gzip stream of one member: a page of no records and at least so many spaces.

    A full flush ends a deflate block at a byte border without reference to what came before
    (RFC 1951), so one compressed chunk is repeated instead of compressing all of them.
    """
    before, after = _NO_RECORDS
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = deflate.compress(before) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(_CHUNK) + deflate.flush(zlib.Z_FULL_FLUSH)
    tail = deflate.compress(after) + deflate.flush()
    chunks = -(-size_bytes // len(_CHUNK))
    checksum = zlib.crc32(before)
    for _ in range(chunks):
        checksum = zlib.crc32(_CHUNK, checksum)
    checksum = zlib.crc32(after, checksum)
    length = (len(before) + chunks * len(_CHUNK) + len(after)) % 2**32
    trailer = checksum.to_bytes(4, "little") + length.to_bytes(4, "little")  # RFC 1952
    return b"".join((_GZIP_HEADER, head, block * chunks, tail, trailer))
