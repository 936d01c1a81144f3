"""Where connections may go: to public addresses, unless the operator configured others (P59).

A name is resolved here, its addresses are judged, and one of those is connected to: whatever the
name says a moment later, nobody asks it again. TLS and `Host` keep the name.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

import attrs
import trio

Address: TypeAlias = "IPv4Address | IPv6Address"
# Of a name and a port: its addresses as text, the one to prefer first.
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
Dial: TypeAlias = Callable[[str, int], Awaitable[trio.SocketStream]]

RESOLVE_SECONDS = 10.0  # resolv.conf(5): an attempt takes 5 s, and there are two
# getaddrinfo cannot be ended, only left: a name server that hangs keeps as many threads for as long
# as its attempts take, and none of those that commits and plugins run in.
RESOLVING_MAX = 16
NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305 5: before the next address is tried beside the last
ADDRESSES_MAX = 8  # of one name: it may have hundreds

# Where an operator's own network is: RFC 1918, RFC 6598, RFC 4193, and this machine. The address
# range of cloud metadata (RFC 3927, 169.254.169.254) is none of it.
_PRIVATE: Final = tuple(
    IPv4Network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
_PRIVATE_V6: Final = IPv6Network("fc00::/7")
_INTERNET_V6: Final = IPv6Network("2000::/3")  # RFC 4291 2.4: all that is given out as global
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052 2.1: the last 32 bits are the address meant
_LOCALHOST: Final = re.compile(r"(?:.+\.)?localhost\.?", re.IGNORECASE)  # RFC 6761 6.3


class Misdirected(OSError):
    """A name that leads where no connection may go; nothing was sent."""


def meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def is_public(address: Address) -> bool:
    """Say whether an address is one of the internet's, whatever it is written as."""
    address = meant(address)
    if isinstance(address, IPv6Address) and address not in _INTERNET_V6:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def is_private(address: Address) -> bool:
    """Say whether an address is of an operator's own network, or of this machine."""
    address = meant(address)
    if isinstance(address, IPv6Address):
        return address.is_loopback or address in _PRIVATE_V6
    return address.is_loopback or any(address in network for network in _PRIVATE)


@attrs.frozen
class Allowed:
    """What may be connected to besides public addresses.

    `hosts` are those that the configuration names: one that is an address stands for itself,
    ``localhost`` for this machine. `private` lets every name lead into the operator's network.
    """

    hosts: frozenset[str] = frozenset()
    private: bool = False

    def permits(self, host: str, address: Address) -> bool:
        if is_public(address) or (self.private and is_private(address)):
            return True
        if host not in self.hosts:
            return False
        if _LOCALHOST.fullmatch(host):
            return address.is_loopback
        # Written as it is meant: `2130706433` is no address here, and `::ffff:127.0.0.1` another's.
        literal = literal_of(host)
        return literal is not None and literal == meant(literal) and not _leads_nowhere(literal)

    def checked(self, host: str, addresses: Iterable[str]) -> tuple[str, ...]:
        """Return addresses that a host was resolved to, if all may be connected to.

        All of them: a name that leads here and there is not half to be trusted.

        Raises: `Misdirected`.
        """
        given = tuple(dict.fromkeys(addresses))
        for text in given:
            if not self.permits(host, ip_address(text.partition("%")[0])):
                raise Misdirected(f"resolved to {text}, which is not a public address")
        if not given:
            raise Misdirected("resolved to no address")
        return given[:ADDRESSES_MAX]


def literal_of(host: str) -> Address | None:
    """Return the address that a host is, in the one form that has no other reading."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def _leads_nowhere(address: Address) -> bool:
    return address.is_multicast or address.is_unspecified


# --- Asking, and connecting -----------------------------------------------------------------------

_resolving: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("syncd.resolving")


async def ask_system(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver.

    Raises: `OSError`.
    """
    try:
        limiter = _resolving.get()
    except LookupError:
        limiter = trio.CapacityLimiter(RESOLVING_MAX)
        _resolving.set(limiter)

    def ask() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(address[0]) for *_, address in found]

    return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=limiter)


@attrs.frozen
class Peers:
    """Opens connections to what is allowed."""

    allowed: Allowed = Allowed()
    resolve: Resolve = ask_system
    dial: Dial = trio.open_tcp_stream

    async def connect(self, host: str, port: int) -> trio.SocketStream:
        """Resolve a host, check where it leads, and connect there.

        Raises: `Misdirected`; `OSError`. Deadlines are the caller's.
        """
        addresses = await self._addresses(host, port)
        return await _first(self.dial, self.allowed.checked(host, addresses), port)

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        if (literal := literal_of(host)) is not None:
            return [str(literal)]
        with trio.move_on_after(RESOLVE_SECONDS):
            return await self.resolve(host, port)
        raise OSError(f"its name was not resolved within {RESOLVE_SECONDS:g} s")


async def _first(dial: Dial, addresses: Sequence[str], port: int) -> trio.SocketStream:
    """Connect to the first address that answers; each has a start before the next (RFC 8305)."""
    won: list[trio.SocketStream] = []
    failed: list[OSError] = []

    async def attempt(place: int, ahead: trio.Event) -> None:
        with trio.move_on_after(NEXT_ADDRESS_SECONDS if place else 0):
            await ahead.wait()
        over = trio.Event()
        if place + 1 < len(addresses):
            nursery.start_soon(attempt, place + 1, over)
        try:
            stream = await dial(addresses[place], port)
        except OSError as error:
            failed.append(error)
            over.set()
            return
        won.append(stream)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            await attempt(0, trio.Event())
        if won:
            return won.pop(0)
    finally:
        for late in won:
            late.socket.close()
    raise failed[0]
