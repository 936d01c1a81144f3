"""The HTTP library behind one function: `Wire.exchange`. Nothing else here names httpx.

httpx's transport is used without its client: the client would keep cookies, follow the
environment's proxies, and log every URL with its query.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from ssl import SSLContext
from typing import Protocol, TypeAlias

import attrs
import httpx
import trio

URL: TypeAlias = httpx.URL
InvalidURL: TypeAlias = httpx.InvalidURL

# Of status and headers: for how many seconds the body is wanted, within the request's deadline.
TakeHead: TypeAlias = Callable[[int, Mapping[str, str]], float]
# Of a piece of the body as sent: whether more is wanted.
TakeChunk: TypeAlias = Callable[[bytes], bool]

# Upstreams and their balancers close idle connections after 60 s or more; ours go before.
IDLE_SECONDS = 30.0

# Closing a socket talks to nobody; this only bounds what a TLS library might add.
CLOSE_SECONDS = 2.0


@attrs.frozen
class Fault:
    """An exchange ended before its end. `protocol`: the peer broke HTTP, or off in mid-body."""

    what: str
    protocol: bool


class Wire(Protocol):
    """What the client needs of an HTTP library."""

    async def exchange(
        self, url: URL, headers: Mapping[str, str], *, head: TakeHead, chunk: TakeChunk
    ) -> Fault | None:
        """GET one resource, telling `head` and then `chunk` what comes; deadlines are the caller's.

        Follows no redirect, keeps no cookie, decodes nothing. A fault is returned, not raised:
        a library's exceptions quote what the peer sent, and that may echo a secret.
        """
        ...

    async def aclose(self) -> None: ...


@cache
def _trust() -> SSLContext:
    # Reading the root certificates takes some 20 ms and a megabyte: once, not once per account.
    return httpx.create_ssl_context(trust_env=False)


@contextmanager
def _faults(found: list[Fault]) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as exc:
        text = f"{type(exc).__name__}: {_reason(exc)}"
        found.append(Fault(text, protocol=isinstance(exc, httpx.ProtocolError)))


def _reason(error: BaseException) -> str:
    # Trio's and httpx's wrappers are often empty: a refused certificate is named two causes down.
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause) if cause is not None else "no reason given"


class HttpxWire:
    """Exchanges over kept connections.

    One transport with one connection each, the last used first: httpx's shared pool looks at every
    connection for every request (CPU per request with 8 in flight 1.40 ms against 1.21 ms, with 32
    in flight 3.2 ms against 1.6 ms; 50 records a page on loopback).
    """

    def __init__(self) -> None:
        self._idle: deque[tuple[float, httpx.AsyncHTTPTransport]] = deque()

    async def exchange(
        self, url: URL, headers: Mapping[str, str], *, head: TakeHead, chunk: TakeChunk
    ) -> Fault | None:
        transport = self._idle.pop()[1] if self._idle else self._connect()
        found: list[Fault] = []
        try:
            with _faults(found):
                await self._exchange(
                    transport, httpx.Request("GET", url, headers=headers), head, chunk
                )
        finally:
            self._idle.append((trio.current_time(), transport))
        await self._close_stale()
        return found[0] if found else None

    async def aclose(self) -> None:
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            while self._idle:
                await self._idle.pop()[1].aclose()

    async def _exchange(
        self,
        transport: httpx.AsyncHTTPTransport,
        request: httpx.Request,
        head: TakeHead,
        chunk: TakeChunk,
    ) -> None:
        response = await transport.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            # What is no longer wanted is cut by cancelling the read: leaving the loop instead would
            # abandon the library's generators half way.
            with trio.CancelScope() as wanted:
                wanted.deadline = trio.current_time() + head(
                    response.status_code, dict(response.headers.items())
                )
                async for data in response.stream:
                    if not wanted.cancel_called and not chunk(data):
                        wanted.cancel()
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await response.stream.aclose()

    def _connect(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=_trust(),
            trust_env=False,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS),
        )

    async def _close_stale(self) -> None:
        while self._idle and self._idle[0][0] < trio.current_time() - IDLE_SECONDS:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._idle.popleft()[1].aclose()
