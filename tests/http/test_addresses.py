"""Connections go to public addresses, and to the very ones that were checked (P59)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from syncd.errors import Unavailable, Unintelligible
from syncd.http.addresses import (
    RESOLVE_SECONDS,
    Allowed,
    Misdirected,
    Peers,
    ask_system,
    is_private,
    is_public,
)
from syncd.http.wire import KeptConnections

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Scripted

    Open = Callable[[], Awaitable[Scripted]]

PUBLIC = "93.184.216.34"
METADATA = "169.254.169.254"
UNWANTED = [
    METADATA, "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1",
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "::1", "::",
    "fe80::1", "fe80::1%lo", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "::ffff:127.0.0.1",
    "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:1::80ff:fffe", "64:ff9b:1::1",
]  # fmt: skip


@attrs.define
class Names:
    """A name server that says what a test wrote, one answer after the other; and who is dialled.

    Whatever address is dialled, the test's own server answers.
    """

    port: int
    answers: list[list[str]]
    asked: list[str] = attrs.field(factory=list)
    dialled: list[str] = attrs.field(factory=list)
    dead: frozenset[str] = frozenset()

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)

    async def dial(self, address: str, _port: int) -> trio.SocketStream:
        self.dialled.append(address)
        if address in self.dead:
            raise OSError("no route to host")
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    def wire(self, allowed: Allowed | None = None) -> KeptConnections:
        return KeptConnections(Peers(allowed or Allowed(), self.resolve, self.dial))


def names(upstream: Scripted, *answers: list[str], **given: Any) -> Names:
    return Names(int(upstream.url.split(":")[2].split("/")[0]), list(answers), **given)


async def test_the_checked_address_is_the_connected_one_and_the_name_stays_the_host(
    upstream: Scripted, bench: Bench
) -> None:
    there = names(upstream, [PUBLIC], ["127.0.0.1"])
    upstream.plays(upstream.says(Connection="close"))
    client = await bench.client("http://api.example/v1", wire=there.wire())

    await client.for_fetch().get("cars")
    with pytest.raises(Unavailable, match=r"resolved to 127\.0\.0\.1, which is not"):
        await client.for_fetch().get("cars")

    assert there.dialled == [PUBLIC]
    assert there.asked == ["api.example"] * 2  # once for a connection: none is dialled by its name
    assert upstream.connections == 1
    assert upstream.received[0].headers["host"] == "api.example"


@pytest.mark.parametrize("address", UNWANTED)
async def test_a_name_that_leads_to_no_public_address_is_not_connected_to(
    upstream: Scripted, bench: Bench, address: str
) -> None:
    there = names(upstream, [address])
    client = await bench.client("http://api.example/v1", wire=there.wire())

    with pytest.raises(Unavailable) as caught:
        await client.for_fetch().get("cars")

    assert str(caught.value) == (
        f"cars GET /v1/cars: resolved to {address}, which is not a public address; set "
        "private_network = true for this connector if the API is in your own network"
    )
    assert there.dialled == []
    assert len(there.asked) == 1  # asking at once again is no use


async def test_a_name_that_leads_here_and_there_is_not_connected_to_at_all(
    upstream: Scripted, bench: Bench
) -> None:
    there = names(upstream, [PUBLIC, "10.0.0.1"])
    client = await bench.client("http://api.example/v1", wire=there.wire())

    with pytest.raises(Unavailable, match=r"resolved to 10\.0\.0\.1"):
        await client.for_fetch().get("cars")

    assert there.dialled == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0x7f.1", "127.1", "[::ffff:7f00:1]"])
async def test_an_address_in_disguise_is_refused_even_as_the_base_url(
    upstream: Scripted, bench: Bench, host: str
) -> None:
    client = await bench.client(upstream.url.replace("127.0.0.1", host))

    with pytest.raises(Unavailable, match="not a public address"):
        await client.for_fetch().get("cars")

    assert upstream.connections == 0


async def test_with_leave_a_name_may_lead_to_this_machine(upstream: Scripted, bench: Bench) -> None:
    url = upstream.url.replace("127.0.0.1", "2130706433")
    client = await bench.client(url, private_network=True)

    assert (await client.for_fetch().get("cars")).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_base_url_that_says_so_itself_is_reached_on_this_machine(
    upstream: Scripted, bench: Bench, host: str
) -> None:
    client = await bench.client(upstream.url.replace("127.0.0.1", host))

    assert (await client.for_fetch().get("cars")).status == 200


async def test_an_address_in_the_base_url_gives_other_names_no_leave(
    upstream: Scripted, bench: Bench
) -> None:
    allowed = Allowed(frozenset({"127.0.0.1", "localhost", "api.example"}))
    there = names(upstream, ["127.0.0.1"], ["10.0.0.1"])
    client = await bench.client(
        "http://api.example/v1",
        wire=there.wire(allowed),
        credential_origins=("http://localhost",),
    )

    with pytest.raises(Unavailable, match=r"resolved to 127\.0\.0\.1"):
        await client.for_fetch().get("cars")
    with pytest.raises(Unavailable, match=r"resolved to 10\.0\.0\.1"):
        await client.for_fetch().get("http://localhost/cars")

    assert there.dialled == []


async def test_a_private_network_is_reached_by_leave_but_never_its_metadata(
    upstream: Scripted, bench: Bench
) -> None:
    there = names(upstream, ["10.0.0.7"], [METADATA])
    upstream.plays(upstream.says(Connection="close"))
    wire = there.wire(Allowed(private=True))
    client = await bench.client("http://api.internal/v1", wire=wire)

    await client.for_fetch().get("cars")
    with pytest.raises(Unavailable, match="not a public address"):
        await client.for_fetch().get("cars")

    assert there.dialled == ["10.0.0.7"]


async def test_a_redirect_to_the_metadata_service_is_refused(
    upstream: Scripted, bench: Bench
) -> None:
    upstream.plays(upstream.says(302, Location=f"http://{METADATA}/latest/meta-data/"))
    there = names(upstream, [PUBLIC])
    client = await bench.client("http://api.example/v1", wire=there.wire())

    with pytest.raises(Unintelligible, match="the redirect leads to"):
        await client.for_fetch().get("cars")

    assert there.dialled == [PUBLIC]


async def test_the_next_address_is_tried_where_the_first_is_dead(
    upstream: Scripted, bench: Bench
) -> None:
    there = names(upstream, ["2606:2800:220:1::1", PUBLIC], dead=frozenset({"2606:2800:220:1::1"}))
    client = await bench.client("http://api.example/v1", wire=there.wire())

    assert (await client.for_fetch().get("cars")).status == 200
    assert there.dialled == ["2606:2800:220:1::1", PUBLIC]


async def test_a_name_server_that_hangs_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        await trio.sleep_forever()
        return []

    with pytest.raises(OSError, match="was not resolved within 10 s"):
        await Peers(resolve=resolve).connect("api.example", 443)

    assert trio.current_time() == pytest.approx(RESOLVE_SECONDS)


async def test_resolving_takes_no_thread_of_those_that_others_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        asked.set()
        answer.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    others = trio.to_thread.current_default_thread_limiter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_system, "api.example", 443)
        while not asked.is_set():  # noqa: ASYNC110  # set by a thread
            await trio.sleep(0.001)
        borrowed = others.borrowed_tokens
        answer.set()

    assert borrowed == 0


@pytest.mark.parametrize("address", UNWANTED)
def test_what_is_not_the_internets_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address.partition("%")[0]))


@pytest.mark.parametrize(
    "address", [PUBLIC, "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:93.184.216.34"]
)
def test_what_is_the_internets_is_public(address: str) -> None:
    assert is_public(ip_address(address))
    assert not is_private(ip_address(address))


@pytest.mark.parametrize("address", [METADATA, "0.0.0.0", "224.0.0.1", "ff02::1", "192.0.2.1"])
def test_no_network_of_ones_own_has_these(address: str) -> None:
    with pytest.raises(Misdirected):
        Allowed(private=True).checked("api.internal", [address])


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "::"])
def test_not_even_a_literal_leads_nowhere(address: str) -> None:
    with pytest.raises(Misdirected):
        Allowed(frozenset({address})).checked(address, [address])


def test_a_name_without_addresses_is_said_to_have_none() -> None:
    with pytest.raises(Misdirected, match="resolved to no address"):
        Allowed().checked("api.example", [])
