"""A connector that is told by webhooks where parcels are.

It fetches nothing. Its handler does as the body says: it is the tests' way to a handler that lies,
raises and hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec

from syncd import (
    Connector,
    Context,
    Cursor,
    Feed,
    Page,
    Partition,
    Pass,
    Quota,
    Record,
    Request,
    Route,
    RouteAnswer,
    RouteRequest,
    Secret,
    Stream,
    Upstream,
    bearer_matches,
    hookimpl,
)

BEARER = "a-bearer-that-is-invented"

HUNG = threading.Event()  # ends handlers that hang


@attrs.frozen
class Settings:
    bearer: Secret


@attrs.frozen
class Parcel:
    id: int
    state: str
    updated_at: datetime


PARCELS = Stream("parcels", Parcel, key=("id",), version="updated_at")


class Told(msgspec.Struct):
    """What the body of an event says."""

    event_id: str | None = None
    parcels: list[msgspec.Raw] = []
    stream: str = "parcels"
    account: str = "default"
    status: int = 200
    do: str = ""


def received(settings: Settings, request: RouteRequest) -> RouteAnswer:
    if not bearer_matches(request.headers, settings.bearer):
        return RouteAnswer(401)
    told = msgspec.json.decode(request.body, type=Told)
    match told.do:
        case "raise":
            raise RuntimeError(f"no parcel for {settings.bearer.reveal()}")
        case "hang":
            HUNG.wait(60.0)
        case "lie":
            return "received"  # type: ignore[return-value]
    return RouteAnswer(
        told.status,
        b'{"heard": true}',
        records={told.stream: [Record(raw) for raw in told.parcels]},
        event_id=told.event_id,
        account=told.account,
        headers={"content-type": "application/json"},
    )


def greeted(_: Settings, request: RouteRequest) -> RouteAnswer:
    return RouteAnswer(202, f"{request.method} {request.path} {dict(request.query)}".encode())


class Courier:
    """The connector's hooks."""

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [
            Connector(
                "courier",
                "1.0.0",
                settings=Settings,
                feeds=(Feed("parcels", (PARCELS,), quota="all"),),
                upstream=lambda _, __: Upstream("http://127.0.0.1:9", quotas=(Quota("all"),)),
            )
        ]

    @hookimpl
    def begin(self) -> Any:
        def first(_: Partition, request: Request, __: datetime) -> Pass:
            return Pass(request.mode, (Cursor("all"),))

        return first

    @hookimpl
    def fetch(self) -> Any:
        async def nothing(_: Context[Settings, None], __: Cursor) -> Page:
            return Page({})

        return nothing

    @hookimpl
    def routes(self) -> Sequence[Route]:
        return [Route("POST", "/webhook", received), Route("GET", "/hello", greeted)]


PLUGIN = Courier()


def parcel(number: int, state: str, at: str = "2026-03-01T00:00:00Z") -> dict[str, Any]:
    return {"id": number, "state": state, "updated_at": at}
