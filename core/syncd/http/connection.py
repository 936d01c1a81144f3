"""One kept HTTP/1.1 connection (RFC 9112): h11 on a Trio stream.

httpx's pool, transport and connection stand for most of the CPU time of a small request, so what
httpx itself is built on is used directly: per request of 50 records on loopback, 8 in flight, its
shared pool took 1.40 ms, a transport per connection 1.33, a bare connection 1.10, this 0.52.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Mapping
from functools import cache
from ssl import SSLContext
from typing import Any, TypeAlias

import h11
import httpx
import trio

# Of status and headers: for how many seconds the body is wanted, within the request's deadline.
TakeHead: TypeAlias = Callable[[int, Mapping[str, str]], float]
# Of a piece of the body as sent: whether more is wanted.
TakeChunk: TypeAlias = Callable[[bytes], bool]

READ_BYTES = 256 * 2**10  # of one read: 64 KiB make four times as many steps of a large body
HEAD_MAX_BYTES = 100 * 2**10  # of status line and fields: what is longer breaks the exchange

ERRORS = (h11.ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError, OSError)

Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"


class Connection:
    """A connection to one origin, for one exchange at a time."""

    def __init__(self, origin: str, stream: Stream) -> None:
        self.origin = origin
        self._stream = stream
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX_BYTES)

    @classmethod
    async def to(cls, url: httpx.URL, origin: str) -> Connection:
        """Connect; deadlines are the caller's. Raises: one of `ERRORS`."""
        host, tls = url.raw_host.decode("ascii"), url.scheme == "https"
        stream = await trio.open_tcp_stream(host, url.port or (443 if tls else 80))
        if not tls:
            return cls(origin, stream)
        secure = trio.SSLStream(stream, _trust(), server_hostname=host, https_compatible=True)
        trusted = False
        try:
            await secure.do_handshake()
            trusted = True
        finally:
            if not trusted:
                await trio.aclose_forcefully(stream)
        return cls(origin, secure)

    @property
    def is_reusable(self) -> bool:
        """Return whether the last exchange ended so that another one may follow."""
        return self._h11.our_state is h11.IDLE

    @property
    def is_stale(self) -> bool:
        """Return whether the peer has closed, or spoken unasked, while nobody listened."""
        stream = self._stream
        tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        looking = select.poll()
        looking.register(tcp.socket.fileno(), select.POLLIN)
        return bool(looking.poll(0))

    async def exchange(
        self, request: h11.Request, body: bytes, *, head: TakeHead, chunk: TakeChunk
    ) -> None:
        """Send a request and hand on its answer, as far as it is wanted.

        Deadlines are the caller's. Raises: one of `ERRORS`.
        """
        sent = self._sent(request)
        if body:
            sent += self._sent(h11.Data(data=body))
        sent += self._sent(h11.EndOfMessage())
        await self._stream.send_all(sent)
        with trio.CancelScope() as wanted:
            while True:
                event = await self._event()
                if isinstance(event, h11.Data):
                    if not chunk(bytes(event.data)):
                        return
                elif isinstance(event, h11.Response):
                    seconds = head(event.status_code, _fields(event))
                    wanted.deadline = trio.current_time() + seconds
                elif isinstance(event, h11.EndOfMessage):
                    if self._h11.our_state is h11.DONE is self._h11.their_state:
                        self._h11.start_next_cycle()
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    raise h11.RemoteProtocolError("the peer left HTTP")

    async def _event(self) -> Any:
        """Return what comes next, as far as it has not come already."""
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))
        return event

    async def aclose(self) -> None:
        """Close without a word: whatever is still on its way is not wanted."""
        await trio.aclose_forcefully(self._stream)

    def _sent(self, event: Any) -> bytes:
        return self._h11.send(event) or b""


@cache
def _trust() -> SSLContext:
    # Reading the root certificates takes up to 160 ms and a megabyte: once, and only if needed.
    context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _fields(response: h11.Response) -> dict[str, str]:
    """Return the fields by name in lower case; of several of one name, all (RFC 9110 5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
