"""The HTTP library behind one function: `Wire.exchange`.

Nothing keeps cookies, follows a redirect or the environment's proxies, or logs an address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol, TypeAlias

import attrs
import h11
import httpx
import trio

from syncd.http.addresses import Misdirected, Peers
from syncd.http.connection import ERRORS, Connection, TakeChunk, TakeHead

URL: TypeAlias = httpx.URL
Method: TypeAlias = Literal["GET", "POST"]
InvalidURL: TypeAlias = httpx.InvalidURL

# Upstreams and their balancers close idle connections after 60 s or more; ours go before.
IDLE_SECONDS = 30.0

# Closing a socket talks to nobody; this only bounds what a TLS library might add.
CLOSE_SECONDS = 2.0


@attrs.frozen(repr=False)  # its headers, its query and its body hold secrets
class Sent:
    """One request as it goes out."""

    url: URL
    headers: Mapping[str, str]
    method: Method = "GET"
    body: bytes = b""


@attrs.frozen
class Fault:
    """An exchange ended before its end.

    `protocol`: the peer broke HTTP, or off in mid-body. `misdirected`: its name led where nobody
    may connect to. `unsent`: nothing has left, so that nothing can have been carried out.
    """

    what: str
    protocol: bool
    misdirected: bool = False
    unsent: bool = False


class Wire(Protocol):
    """What the client needs of an HTTP library."""

    async def exchange(self, sent: Sent, *, head: TakeHead, chunk: TakeChunk) -> Fault | None:
        """Send a request, telling `head` and then `chunk` what comes; deadlines are the caller's.

        Follows no redirect, keeps no cookie, decodes nothing. A fault is returned, not raised:
        a library's exceptions quote what the peer sent, and that may echo a secret.
        """
        ...

    async def aclose(self) -> None: ...


@contextmanager
def _faults(found: list[Fault], what: str, *, unsent: bool) -> Iterator[None]:
    try:
        yield
    except h11.ProtocolError as exc:
        found.append(Fault(f"the peer broke HTTP: {exc}", protocol=True, unsent=unsent))
    except Misdirected as exc:
        found.append(Fault(str(exc), protocol=False, misdirected=True, unsent=unsent))
    except ERRORS as exc:
        found.append(Fault(f"{what}: {_reason(exc)}", protocol=False, unsent=unsent))


def _reason(error: BaseException) -> str:
    """Name the innermost cause: Trio's errors around it are empty, or say the same once more."""
    causes = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__,)
    inner = next((_reason(cause) for cause in causes if cause is not None), "")
    return inner or str(error)


@attrs.frozen(eq=False)
class _Idle:
    """A kept connection, and since when nobody uses it."""

    connection: Connection
    since: float


class KeptConnections:
    """Exchanges over kept connections, the one that was used last first."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._idle: list[_Idle] = []  # longest idle first

    async def exchange(self, sent: Sent, *, head: TakeHead, chunk: TakeChunk) -> Fault | None:
        request = _request(sent)
        found: list[Fault] = []
        connection: Connection | None = None
        await self._close_stale()
        try:
            with _faults(found, "no connection", unsent=True):
                connection = await self._connection(sent.url)
            if connection is not None:
                with _faults(found, "the connection broke", unsent=False):
                    await connection.exchange(request, sent.body, head=head, chunk=chunk)
        finally:
            if connection is not None and connection.is_reusable:
                self._idle.append(_Idle(connection, trio.current_time()))
            elif connection is not None:
                with trio.move_on_after(CLOSE_SECONDS, shield=True):
                    await connection.aclose()
        return found[0] if found else None

    async def aclose(self) -> None:
        while self._idle:
            await _close(self._idle.pop().connection)

    async def _connection(self, url: URL) -> Connection:
        """Take a kept connection to an origin, or make one."""
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        for place in reversed(range(len(self._idle))):
            connection = self._idle[place].connection
            if connection.origin != origin:
                continue
            del self._idle[place]
            if not connection.is_stale:
                return connection
            await _close(connection)
        return await Connection.to(url, origin, self._peers)

    async def _close_stale(self) -> None:
        while self._idle and self._idle[0].since < trio.current_time() - IDLE_SECONDS:
            await _close(self._idle.pop(0).connection)


async def _close(connection: Connection) -> None:
    with trio.move_on_after(CLOSE_SECONDS, shield=True):
        await connection.aclose()


def _request(sent: Sent) -> h11.Request:
    fields = [(b"host", sent.url.netloc)]
    fields += [(name.encode(), value.encode()) for name, value in sent.headers.items()]
    if sent.method != "GET":  # RFC 9110 8.6: a POST without a body says so
        fields.append((b"content-length", b"%d" % len(sent.body)))
    return h11.Request(method=sent.method.encode(), target=sent.url.raw_path, headers=fields)
