"""HTTP without sockets: requests travel in virtual time, and things befall them.

A `Network` stands between the clients of all daemons and one upstream. Its latency, its jitter and
its faults are drawn from a seed; deadlines are the client's own, and end an exchange as they end
one over a socket. The upstream is a plain object that answers at once, when a request arrives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Literal, Protocol
from urllib.parse import parse_qsl

import attrs
import trio

from syncd.http.wire import Fault, Sent

Befalling = Literal[
    "refused",
    "stall",
    "reset",
    "reset in mid-body",
    "cut",
    "half",
    "drip",
    "503",
    "429",
    "429 told",
]
BEFALLING: tuple[Befalling, ...] = Befalling.__args__  # type: ignore[attr-defined]

RUN_MAX = 4  # of one kind of answer in a row: the API's users report up to six 429
ASKED_SECONDS = (1.0, 4.0)  # by a `Retry-After` of the network's own
STALL_SECONDS = 3600.0  # longer than any client waits

TakeHead = Callable[[int, Mapping[str, str]], float]
TakeChunk = Callable[[bytes], bool]
Told = Callable[[int, float], None]  # a sender has heard of a lock, at that time


@attrs.frozen
class Asked:
    """One request as it arrives. `sender`: the daemon; `left_at`, `at`: virtual seconds."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    sender: int
    left_at: float
    at: float


@attrs.frozen
class Answer:
    """What the upstream answers, `seconds` after the request arrived."""

    status: int
    body: bytes
    headers: Mapping[str, str] = attrs.field(factory=dict)
    seconds: float = 0.0
    told: Told | None = None  # called when its head has come


class Answering(Protocol):
    """An upstream."""

    def answer(self, asked: Asked) -> Answer: ...


@attrs.frozen
class Weather:
    """How a network behaves. `chance`: of a request to meet a fault; a 503 or 429 comes in runs."""

    latency_seconds: float = 0.1  # there and back
    jitter: float = 0.1  # of the latency, up or down, of each way by itself
    chance: float = 0.0
    befalling: tuple[Befalling, ...] = BEFALLING
    chunk_bytes: int = 2**18
    drip_seconds: float = 2.0  # between two of the drip's chunks


FAIR = Weather()


class Network:
    """The way to one upstream, for all daemons."""

    def __init__(
        self,
        upstream: Answering,
        *,
        weather: Weather = FAIR,
        random: Random,
        lock: Callable[[Asked, float], Told] | None = None,
    ) -> None:
        """`lock(asked, seconds)`: the network's own 429 asked for a wait; tells who hears of it."""
        self.weather = weather
        self.upstream = upstream
        self.met: Counter[str] = Counter()
        self._random = random
        self._lock = lock
        self._run: tuple[Befalling, int] | None = None  # what comes again, how often

    def way_seconds(self) -> float:
        """Draw how long one way takes."""
        weather = self.weather
        half = weather.latency_seconds / 2
        return half * (1 + weather.jitter * self._random.uniform(-1.0, 1.0))

    def draw(self) -> Befalling | None:
        """Draw what befalls the next request."""
        if self._run is not None:
            kind, left = self._run
            self._run = (kind, left - 1) if left > 1 else None
            return kind
        if not self.weather.chance or self._random.random() >= self.weather.chance:
            return None
        kind = self._random.choice(self.weather.befalling)
        again = self._random.randrange(RUN_MAX)
        if again and kind in {"503", "429", "429 told"}:
            self._run = (kind, again)
        return kind

    def clear(self) -> None:
        """Let the weather be fair from now on."""
        self.weather = attrs.evolve(self.weather, chance=0.0)
        self._run = None

    def answer(self, asked: Asked, befalling: Befalling | None) -> Answer:
        """Let a request arrive: the upstream answers, or something on the way in its place."""
        if befalling == "503":
            return Answer(503, b"upstream connect error", {"content-type": "text/plain"})
        if befalling == "429":
            return Answer(429, b'{"message":"Too Many Attempts."}', _JSON)
        if befalling == "429 told":
            seconds = float(round(self._random.uniform(*ASKED_SECONDS)))
            told = self._lock(asked, seconds) if self._lock else None
            headers = {**_JSON, "retry-after": f"{seconds:.0f}"}
            return Answer(429, b'{"message":"Too Many Attempts."}', headers, told=told)
        return self.upstream.answer(asked)


_JSON = {"content-type": "application/json"}


@attrs.frozen
class Crossing:
    """An answer on its way back, what befalls it, and whose it is."""

    answer: Answer
    befalling: Befalling | None
    sender: int


class MemoryWire:
    """The exchanges of one client (`syncd.http.Wire`), by the host's name."""

    def __init__(self, networks: Mapping[str, Network], sender: int) -> None:
        self._networks = networks
        self._sender = sender

    async def exchange(self, sent: Sent, *, head: TakeHead, chunk: TakeChunk) -> Fault | None:
        network, left_at = self._networks[sent.url.host], trio.current_time()
        befalling = network.draw()
        if befalling is not None:
            network.met[befalling] += 1
        await trio.sleep(network.way_seconds())
        if befalling == "refused":
            return Fault("no connection: refused", protocol=False)
        asked = Asked(
            method=sent.method,
            host=sent.url.host,
            path=sent.url.path,
            query=dict(parse_qsl(sent.url.query.decode("ascii"), keep_blank_values=True)),
            headers=sent.headers,
            body=sent.body,
            sender=self._sender,
            left_at=left_at,
            at=trio.current_time(),
        )
        answer = network.answer(asked, befalling)
        await trio.sleep(answer.seconds + network.way_seconds())
        if befalling == "stall":
            await trio.sleep(STALL_SECONDS)
        if befalling == "reset":
            return Fault("the connection broke: reset by peer", protocol=False)
        crossing = Crossing(answer, befalling, self._sender)
        return await _deliver(network.weather, crossing, head, chunk)

    async def aclose(self) -> None:
        """Nothing is kept."""


async def _deliver(
    weather: Weather, crossing: Crossing, head: TakeHead, chunk: TakeChunk
) -> Fault | None:
    answer, befalling = crossing.answer, crossing.befalling
    body = answer.body if befalling != "half" else answer.body[: len(answer.body) // 2]
    fields = {"content-length": str(len(body)), **answer.headers}
    with trio.CancelScope() as wanted:
        wanted.deadline = trio.current_time() + head(answer.status, fields)
        if answer.told is not None:
            answer.told(crossing.sender, trio.current_time())
        await trio.lowlevel.checkpoint()
        return await _send(weather, body, befalling, chunk)
    return None


async def _send(
    weather: Weather, body: bytes, befalling: Befalling | None, chunk: TakeChunk
) -> Fault | None:
    for at, piece in _pieces(weather, body, befalling):
        if at >= len(body) // 2:
            if befalling == "reset in mid-body":
                return Fault("the connection broke: reset by peer", protocol=False)
            if befalling == "cut":
                return Fault("the peer broke HTTP: closed in mid-body", protocol=True)
        if not chunk(piece):
            return None
        if befalling == "drip":
            await trio.sleep(weather.drip_seconds)
    return None


def _pieces(
    weather: Weather, body: bytes, befalling: Befalling | None
) -> Iterator[tuple[int, bytes]]:
    size = max(1, len(body) // 10) if befalling else weather.chunk_bytes
    for at in range(0, len(body), size):
        yield at, body[at : at + size]
