"""The HTTP library behind one function: `Wire.exchange`. Nothing else here names httpx.

httpx's connections (httpcore) are used without its client, which would keep cookies, follow the
environment's proxies and log every URL with its query, and without its pool and transport, which
cost more than the exchange itself: CPU per request of 50 records on loopback, 8 in flight, @@.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from ssl import SSLContext
from typing import Any, Protocol, TypeAlias

import attrs
import httpcore
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

# Of one read: httpcore's own 64 KiB make four times as many steps of a large body.
READ_BYTES = 256 * 2**10

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
    # Reading the root certificates takes up to 160 ms and a megabyte: once, and only if needed.
    return httpx.create_ssl_context(trust_env=False)


# httpcore gives its errors no class of their own.
_FAULTS = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ConnectionNotAvailable,
    httpcore.UnsupportedProtocol,
)


@contextmanager
def _faults(found: list[Fault]) -> Iterator[None]:
    try:
        yield
    except _FAULTS as exc:
        text = f"{type(exc).__name__}: {_reason(exc)}"
        found.append(Fault(text, protocol=isinstance(exc, httpcore.ProtocolError)))


def _reason(error: BaseException) -> str:
    # Trio's and httpcore's wrappers are often empty: a refused certificate is two causes down.
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause) if cause is not None else "no reason given"


class _Stream(httpcore.AsyncNetworkStream):
    """httpcore's stream, with larger reads."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self.write, self.aclose = inner.write, inner.aclose  # type: ignore[method-assign]
        self.get_extra_info = inner.get_extra_info  # type: ignore[method-assign]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max(max_bytes, READ_BYTES), timeout)

    async def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's own
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))


class _Network(httpcore.TrioBackend):
    """httpcore's network on Trio, with streams that read more at once."""

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(*args, **options))


@attrs.frozen(eq=False)
class _Idle:
    """A kept connection, and since when nobody uses it."""

    connection: httpcore.AsyncHTTPConnection
    since: float


class HttpxWire:
    """Exchanges over kept connections, the one that was used last first."""

    def __init__(self) -> None:
        self._idle: list[_Idle] = []  # longest idle first

    async def exchange(
        self, url: URL, headers: Mapping[str, str], *, head: TakeHead, chunk: TakeChunk
    ) -> Fault | None:
        request = _request(url, headers)
        await self._close_stale()
        connection = await self._connection(request.url.origin)
        found: list[Fault] = []
        try:
            with _faults(found):
                await self._exchange(connection, request, head, chunk)
        finally:
            if connection.is_available():
                self._idle.append(_Idle(connection, trio.current_time()))
            else:
                await _close(connection)
        return found[0] if found else None

    async def aclose(self) -> None:
        while self._idle:
            await _close(self._idle.pop().connection)

    async def _exchange(
        self,
        connection: httpcore.AsyncHTTPConnection,
        request: httpcore.Request,
        head: TakeHead,
        chunk: TakeChunk,
    ) -> None:
        response = await connection.handle_async_request(request)
        try:
            # What is no longer wanted is cut by cancelling the read: leaving the loop instead would
            # abandon the library's generators half way.
            with trio.CancelScope() as wanted:
                wanted.deadline = trio.current_time() + head(response.status, _fields(response))
                async for data in response.aiter_stream():
                    if not wanted.cancel_called and not chunk(data):
                        wanted.cancel()
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await response.aclose()

    async def _connection(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        """Take a kept connection to an origin, or make one; it connects with its first request."""
        for place in reversed(range(len(self._idle))):
            connection = self._idle[place].connection
            if not connection.can_handle_request(origin):
                continue
            del self._idle[place]
            if not connection.has_expired():  # closed by the peer meanwhile
                return connection
            await _close(connection)
        trust = _trust() if origin.scheme == b"https" else None
        return httpcore.AsyncHTTPConnection(origin, ssl_context=trust, network_backend=_Network())

    async def _close_stale(self) -> None:
        while self._idle and self._idle[0].since < trio.current_time() - IDLE_SECONDS:
            await _close(self._idle.pop(0).connection)


async def _close(connection: httpcore.AsyncHTTPConnection) -> None:
    with trio.move_on_after(CLOSE_SECONDS, shield=True):
        await connection.aclose()


def _request(url: URL, headers: Mapping[str, str]) -> httpcore.Request:
    sent = [(b"Host", url.netloc), *((k.encode(), v.encode()) for k, v in headers.items())]
    target = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    return httpcore.Request("GET", target, headers=sent)


def _fields(response: httpcore.Response) -> dict[str, str]:
    """Return the fields by name in lower case; of several of one name, all (RFC 9110 5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
