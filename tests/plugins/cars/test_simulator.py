"""Laws of the stand-in for the cars upstream, asked over real HTTP."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from syncd_cars.inventory import Inventory
from syncd_cars.inventory_kept import KeptRecords
from syncd_cars.inventory_records import Renderer
from syncd_cars.simulator import Fault, FaultKind, Simulator
from syncd_cars.simulator_answers import gzip_bomb
from syncd_cars.simulator_counts import PageKey, TokenBucket
from syncd_cars.simulator_serving import serve

KEY = "an-invented-key"
CARS = 230
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEADLINE_SECONDS = 60


class Clock:
    """A wall clock and a monotonic clock that move only when told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def a_simulator(clock: Clock, *, cars: int = CARS, **options: Any) -> Simulator:
    inventory = Inventory(cars, seed=options.pop("inventory_seed", 1), now=clock.now)
    return Simulator(inventory, api_key=KEY, clock=clock.monotonic, **options)


@asynccontextmanager
async def client_of(simulator: Simulator, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings: dict[str, Any] = {"headers": {"x-api-key": KEY}, "timeout": 10} | options
    with trio.fail_after(DEADLINE_SECONDS):
        async with (
            serve(simulator) as base_url,
            httpx.AsyncClient(base_url=base_url, trust_env=False, **settings) as client,
        ):
            yield client


async def page_of(client: httpx.AsyncClient, path: str = "/cars", **query: object) -> Any:
    response = await client.get(path, params={name: str(value) for name, value in query.items()})
    assert response.status_code == 200, response.text
    return response.json()


async def walk(client: httpx.AsyncClient, path: str = "/cars", **query: object) -> list[Any]:
    """Read all rows, page after page, building the URLs as a careful client does."""
    rows: list[Any] = []
    for number in itertools.count(1):
        page = await page_of(client, path, page=number, **query)
        rows += page["data"]
        if page["links"]["next"] is None:
            break
    return rows


@asynccontextmanager
async def raw_answer(base_url: str) -> AsyncIterator[trio.SocketStream]:
    """Ask for a page over a socket of our own, behind the headers: for those who leave midway."""
    stream = await trio.open_tcp_stream("127.0.0.1", int(base_url.rpartition(":")[2]))
    async with stream:
        request = f"GET /cars HTTP/1.1\r\nhost: loopback\r\nx-api-key: {KEY}\r\n\r\n"
        await stream.send_all(request.encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 200")
        yield stream


# the feed


async def test_walking_page_numbers_to_the_end_yields_every_car_exactly_once() -> None:
    simulator = a_simulator(Clock())
    async with client_of(simulator) as client:
        rows = await walk(client, per_page=50)

    assert rows == list(simulator.inventory.cars())
    assert len({row["id"] for row in rows}) == CARS
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)


async def test_walking_next_links_to_the_end_yields_every_car_exactly_once() -> None:
    simulator = a_simulator(Clock(), next_keeps_query=True)
    rows: list[Any] = []
    async with client_of(simulator) as client:
        link: str | None = "/cars?per_page=50"
        while link:
            page = (await client.get(link)).json()
            rows += page["data"]
            link = page["links"]["next"]

    assert rows == list(simulator.inventory.cars())


async def test_next_links_drop_the_other_parameters_as_the_upstream_shows_them() -> None:
    simulator = a_simulator(Clock(), public_url="https://upstream.example/api")
    async with client_of(simulator) as client:
        page = await page_of(client, page=2, per_page=50)

    assert page["links"] == {
        "first": "https://upstream.example/api/cars?page=1",
        "last": None,
        "prev": "https://upstream.example/api/cars?page=1",
        "next": "https://upstream.example/api/cars?page=3",
    }
    assert page["meta"] == {
        "current_page": 2,
        "from": 51,
        "path": "https://upstream.example/api/cars",
        "per_page": 50,
        "to": 100,
    }


@pytest.mark.parametrize("number", [6, 7, 10**12])
async def test_past_the_end_is_an_empty_page_without_a_next_link(number: int) -> None:
    async with client_of(a_simulator(Clock())) as client:
        page = await page_of(client, page=number, per_page=50)

    assert page["data"] == []
    assert page["links"]["next"] is None
    assert page["meta"]["from"] is page["meta"]["to"] is None


async def test_the_last_page_has_no_next_link_even_when_it_is_full() -> None:
    async with client_of(a_simulator(Clock(), cars=100)) as client:
        page = await page_of(client, page=2, per_page=50)

    assert len(page["data"]) == 50
    assert page["links"]["next"] is None


async def test_totals_are_served_only_when_asked_for() -> None:
    async with client_of(a_simulator(Clock())) as client:
        simple = await page_of(client, per_page=50)
        full = await page_of(client, per_page=50, simple_paginate=0)

    assert not {"total", "last_page"} & simple["meta"].keys()
    assert (full["meta"]["total"], full["meta"]["last_page"]) == (CARS, 5)
    assert full["links"]["last"].endswith("/cars?page=5")


async def test_the_brand_filter_serves_exactly_the_cars_of_those_brands() -> None:
    simulator = a_simulator(Clock(), cars=3000)
    async with client_of(simulator) as client:
        await walk(client, per_page=500, manufacturer_id=12)
        simulator.inventory.insert_at_head(100)
        brands = {row["name"]: row for row in await walk(client, "/manufacturers/cars")}
        chosen = [brands[n] for n in ("Audi", "Mercedes-Benz", "Volkswagen", "BMW")]
        ids = {row["id"] for row in chosen}
        rows = await walk(client, per_page=200, manufacturer_id=",".join(map(str, ids)))
        bmws = await walk(client, per_page=500, manufacturer_id=12)

    truth = list(simulator.inventory.cars())
    assert rows == [car for car in truth if (car.get("manufacturer") or {}).get("id") in ids]
    assert bmws == [car for car in rows if car["manufacturer"]["id"] == 12]
    assert sum(row["cars_qty"] for row in chosen) == len(rows)
    assert 0.10 <= len(rows) / len(truth) <= 0.15


async def test_the_same_seed_serves_the_same_bytes() -> None:
    bodies = []
    for seed in (7, 7, 8):
        simulator = a_simulator(Clock(), inventory_seed=seed, public_url="https://upstream.example")
        async with client_of(simulator) as client:
            # the second page first: no record depends on those before it
            bodies.append([(await client.get("/cars", params={"page": n})).content for n in (2, 1)])

    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_the_feed_holds_every_kind_of_gap_and_junk_that_was_seen_upstream() -> None:
    cars = list(Inventory(4000).cars())
    lots = [lot for car in cars for lot in car["lots"]]
    vins = Counter(car["vin"] for car in cars)
    references = ("manufacturer", "generation", "body_type", "color", "engine", "fuel")
    nested = ("seller", "location", "images", "condition", "title", "status")

    for rows, names in ((cars, references), (lots, nested)):
        for name in names:
            assert any(name in row and row[name] is None for row in rows), name
            assert any(name not in row for row in rows), name
    assert {type(lot["lot"]) for lot in lots} == {int, str, type(None)}
    assert {len(car["lots"]) for car in cars} == {1, 2}
    assert any(isinstance(car.get("engine"), str) for car in cars)
    assert vins[None] > 10
    assert any(count > 1 for vin, count in vins.items() if vin)
    assert any(lot["domain"] is None for lot in lots)
    korean = [lot for lot in lots if lot["domain"] and lot["domain"]["name"] == "encar_com"]
    assert len(korean) > 500
    assert all("badge" in lot["details"] for lot in korean)
    assert all(type(lot["bid"]) in {int, type(None)} for lot in lots)


@pytest.mark.parametrize(("weight", "low", "high"), [("demo", 1300, 1800), ("real", 5500, 6500)])
def test_records_have_the_size_that_their_weight_promises(weight: Any, low: int, high: int) -> None:
    render = Renderer(1, weight).car

    average = sum(len(render(index)) for index in range(1000)) / 1000

    assert low < average < high


# what moves


async def test_an_insertion_at_the_head_shifts_the_pages_behind_it() -> None:
    simulator = a_simulator(Clock())
    async with client_of(simulator) as client:
        first = await page_of(client, page=1, per_page=50)
        inserted = simulator.inventory.insert_at_head(3)
        second = await page_of(client, page=2, per_page=50)
        head = await page_of(client, page=1, per_page=50)

    assert second["data"][:3] == first["data"][-3:]
    assert [row["id"] for row in head["data"][:3]] == inserted
    assert head["data"][3:] == first["data"][:-3]


async def test_archived_cars_leave_the_feed_and_their_lots_appear_archived() -> None:
    clock = Clock()
    simulator = a_simulator(clock)
    before = {car["id"]: car for car in simulator.inventory.cars()}
    async with client_of(simulator) as client:
        gone = simulator.inventory.archive(20, seed=3)
        clock.seconds += 3600
        gone += simulator.inventory.archive(sorted(before.keys() - set(gone))[:1])
        left = await walk(client, per_page=50)
        archived = await walk(client, "/archived-lots", per_page=10)
        recent = await walk(client, "/archived-lots", minutes=59)

    assert {row["id"] for row in left} == before.keys() - set(gone)
    lots = {lot["id"]: lot for identity in gone for lot in before[identity]["lots"]}
    assert {row["lot_id"] for row in archived} == lots.keys()
    assert archived == list(simulator.inventory.archived_lots())
    assert all(row["bid"]["value"] == lots[row["lot_id"]]["bid"] for row in archived)
    assert {row["status"]["name"] for row in archived} <= {"sold", "not_sold"}
    assert {row["car_id"] for row in recent} == set(gone[-1:])


def test_nothing_that_is_not_in_the_feed_can_be_archived() -> None:
    inventory = Inventory(10)
    gone = inventory.archive(1)

    with pytest.raises(ValueError, match=str(gone[0])):
        inventory.archive(gone)
    assert len(inventory) == 9


async def test_minutes_serves_only_what_changed_since() -> None:
    clock = Clock()
    simulator = a_simulator(clock)
    async with client_of(simulator) as client:
        untouched = await page_of(client, minutes=4320)
        simulator.inventory.change(0.1, seed=1)
        clock.seconds += 1800
        changed = simulator.inventory.change(0.05, seed=2)
        inserted = simulator.inventory.insert_at_head(2)
        clock.seconds += 300
        rows = await walk(client, minutes=20, per_page=5)
        everything = await walk(client, minutes=40, per_page=100)

    assert untouched["data"] == []
    assert {row["id"] for row in rows} == {*changed, *inserted}
    assert len(everything) > len(rows)
    since = (clock.now() - timedelta(minutes=20)).strftime("%Y-%m-%dT%H:%M:%S")
    assert all(max(lot["updated_at"] for lot in row["lots"]) >= since for row in rows)


async def test_a_change_alters_the_chosen_cars_and_renders_no_others_again() -> None:
    clock = Clock()
    simulator = a_simulator(clock)
    async with client_of(simulator) as client:
        before = {row["id"]: row for row in await walk(client, per_page=50)}
        changed = simulator.inventory.change(0.1, seed=5)
        after = {row["id"]: row for row in await walk(client, per_page=50)}

    assert len(changed) == CARS // 10
    assert {identity for identity in before if before[identity] != after[identity]} == set(changed)
    for identity in changed:
        old, new = before[identity]["lots"], after[identity]["lots"]
        touched = [n for n, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
        assert touched == [0]
        assert new[0]["updated_at"] == "2026-03-01T12:00:00.000000Z"
    assert simulator.inventory.rendered == CARS + len(changed)


def test_the_second_change_of_a_car_touches_its_second_lot() -> None:
    clock = Clock()
    inventory = Inventory(200, now=clock.now)
    cars = {car["id"]: car["lots"] for car in inventory.cars() if len(car["lots"]) == 2}
    for seed in (1, 2):
        inventory.change(1.0, seed=seed)
        clock.seconds += 1

    assert len(cars) > 10
    for identity, before in cars.items():
        after = inventory.car(identity)["lots"]
        assert all(old["bid"] != new["bid"] for old, new in zip(before, after, strict=True))
        assert [lot["updated_at"] for lot in after] == [
            "2026-03-01T12:00:00.000000Z",
            "2026-03-01T12:00:01.000000Z",
        ]


def test_a_full_store_of_records_forgets_and_serves_the_same() -> None:
    render = Renderer(1, "demo").car
    roomy, cramped = (KeptRecords(render, bytes_max=size) for size in (10**9, 200_000))
    for start in (0, 100, 200, 50, 0):
        indices = range(start, start + 100)
        assert cramped.joined(indices) == roomy.joined(indices) == b",".join(map(render, indices))
        assert cramped.size_bytes <= 200_000

    assert roomy.rendered == 300
    assert cramped.rendered > 300


# what is refused


async def test_a_missing_or_wrong_key_is_refused_with_401() -> None:
    async with client_of(a_simulator(Clock()), headers={}) as client:
        for headers in ({}, {"x-api-key": "wrong"}, {"authorization": f"Bearer {KEY}"}):
            response = await client.get("/cars", headers=headers)
            assert response.status_code == 401
            assert response.json()["message"]


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/cars?per_page=1001", 422),
        ("/cars?minutes=4321", 422),
        ("/cars?minutes=0", 422),
        ("/cars?manufacturer_id=11,x", 422),
        ("/cars?vin=ABC", 501),
        ("/archived-lots?manufacturer_id=11", 501),
        ("/trucks", 404),
        ("/_simulator/counts", 404),
        ("/cars?per_page=1000&minutes=4320", 200),
        ("/cars?page=zero", 200),
    ],
)
async def test_what_is_out_of_bounds_is_refused_with_a_message(url: str, status: int) -> None:
    async with client_of(a_simulator(Clock())) as client:
        response = await client.get(url)

    assert response.status_code == status
    assert ("message" in response.json()) == (status != 200)


async def test_every_response_carries_the_date_of_the_simulators_clock() -> None:
    clock = Clock()
    simulator = a_simulator(clock)
    kinds = (
        FaultKind.HTML,
        FaultKind.SERVER_ERROR,
        FaultKind.TOO_MANY_REQUESTS,
        FaultKind.REDIRECT,
    )
    for kind in kinds:
        simulator.arm(Fault(kind=kind))
    async with client_of(simulator) as client:
        responses = [await client.get("/cars") for _ in (*kinds, "a page")]
        responses += [await client.get(url) for url in ("/cars?minutes=9999", "/trucks")]
        responses.append(await client.get("/cars", headers={"x-api-key": ""}))

    assert [r.status_code for r in responses] == [200, 503, 429, 302, 200, 422, 404, 401]
    assert {len(r.headers.get_list("date")) for r in responses} == {1}
    assert {parsedate_to_datetime(r.headers["date"]) for r in responses} == {NOON}


# the rate limit


@given(
    gaps=st.lists(st.integers(0, 30), max_size=60),
    burst=st.integers(1, 4),
)
def test_the_bucket_refuses_what_comes_faster_and_never_less(gaps: list[int], burst: int) -> None:
    """Checked against whole-numbered arithmetic: a token is ten ticks, so is its interval."""
    clock = Clock()
    bucket = TokenBucket(1.0, burst, clock.monotonic)
    ticks_in_bucket = 10 * burst
    for gap in gaps:
        clock.seconds += gap / 10
        ticks_in_bucket = min(10 * burst, ticks_in_bucket + gap)

        admitted = bucket.admits()

        assert admitted == (ticks_in_bucket >= 10)
        ticks_in_bucket -= 10 * admitted


async def test_requests_beyond_the_rate_are_429_with_retry_after_by_turns() -> None:
    clock = Clock()
    simulator = a_simulator(clock, rate=0.5, burst=2)
    async with client_of(simulator) as client:
        statuses, waits = [], []
        for _ in range(6):
            response = await client.get("/cars")
            statuses.append(response.status_code)
            waits.append(response.headers.get("retry-after"))
        clock.seconds += 1.9
        early = await client.get("/cars")
        clock.seconds += 0.1
        in_time = await client.get("/cars")

    assert statuses == [200, 200, 429, 429, 429, 429]
    assert waits == [None, None, "2", None, "2", None]
    assert (early.status_code, in_time.status_code) == (429, 200)
    assert simulator.counts.requests == 8
    assert simulator.counts.too_many_requests == 5


# faults


def is_not_json(response: httpx.Response) -> bool:
    try:
        response.json()
    except ValueError:
        return True
    return False


async def symptom(client: httpx.AsyncClient, patience_seconds: float = 10) -> str:
    """Say what befalls a client that asks for a page."""
    asked = {"page": 2, "per_page": 5}
    try:
        response = await client.get("/cars", params=asked, timeout=patience_seconds)
    except httpx.RemoteProtocolError:
        return "cut"
    except httpx.ReadTimeout:
        return "timeout"
    if response.status_code != 200:
        return str(response.status_code)
    if "html" in response.headers["content-type"]:
        return "html"
    if is_not_json(response):
        return "broken" if response.content.endswith(b"}}") else "half"
    if len(response.content) > 1_000_000:
        return "bomb" if "content-encoding" in response.headers else "huge"
    return "page" if response.json()["data"] else "empty"


SYMPTOMS = {
    FaultKind.EMPTY_PAGE: "empty",
    FaultKind.BROKEN_JSON: "broken",
    FaultKind.HALF_JSON: "half",
    FaultKind.CUT_BODY: "cut",
    FaultKind.HTML: "html",
    FaultKind.SERVER_ERROR: "503",
    FaultKind.TOO_MANY_REQUESTS: "429",
    FaultKind.DRIP: "timeout",
    FaultKind.HUGE_BODY: "huge",
    FaultKind.GZIP_BOMB: "bomb",
    FaultKind.STALL: "timeout",
    FaultKind.REDIRECT: "302",
}


@pytest.mark.parametrize("kind", FaultKind)
async def test_an_armed_fault_fires_exactly_as_often_as_asked(kind: FaultKind) -> None:
    expected = SYMPTOMS[kind]
    simulator = a_simulator(Clock())
    armed = simulator.arm(Fault(kind=kind, page=2, times=2, size_bytes=3_000_000))
    patience = 0.25 if expected == "timeout" else 10
    async with client_of(simulator) as client:
        await page_of(client, page=1, per_page=5)
        seen = [await symptom(client, patience) for _ in range(2)]
        afterwards = await symptom(client)

    assert seen == [expected, expected]
    assert afterwards == "page"
    assert armed.fired == 2
    assert armed.spent


async def test_a_run_of_429_lasts_as_long_as_asked_and_an_endless_one_for_ever() -> None:
    simulator = a_simulator(Clock())
    run = simulator.arm(Fault(kind=FaultKind.TOO_MANY_REQUESTS, times=6))
    async with client_of(simulator) as client:
        of_run = [await symptom(client) for _ in range(7)]
        simulator.faults.disarm()
        endless = simulator.arm(Fault(kind=FaultKind.TOO_MANY_REQUESTS, times=None))
        for_ever = [await symptom(client) for _ in range(20)]

    assert of_run == ["429"] * 6 + ["page"]
    assert for_ever == ["429"] * 20
    assert (run.fired, endless.fired, endless.spent) == (6, 20, False)


async def test_a_fault_armed_for_the_nth_request_spares_those_before_it() -> None:
    simulator = a_simulator(Clock())
    simulator.arm(Fault(kind=FaultKind.SERVER_ERROR, request=3, status=500))
    simulator.arm(Fault(kind=FaultKind.HTML, path="/archived-lots"))
    async with client_of(simulator) as client:
        seen = [await symptom(client) for _ in range(4)]
        archived = await client.get("/archived-lots")

    assert seen == ["page", "page", "500", "page"]
    assert archived.headers["content-type"].startswith("text/html")


async def test_a_false_empty_page_looks_like_one_past_the_end() -> None:
    simulator = a_simulator(Clock())
    simulator.arm(Fault(kind=FaultKind.EMPTY_PAGE, page=2))
    async with client_of(simulator) as client:
        false = await page_of(client, page=2, per_page=5)
        simulator.inventory.archive(CARS - 5)
        true = await page_of(client, page=2, per_page=5)

    assert false == true
    assert false["links"]["next"] is None


async def test_a_dripping_page_arrives_byte_by_byte() -> None:
    simulator = a_simulator(Clock())
    simulator.arm(Fault(kind=FaultKind.DRIP, delay_seconds=0.05))
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(simulator) as base_url, raw_answer(base_url) as stream:
            parts = [await stream.receive_some(100) for _ in range(10)]

    assert b"".join(parts).startswith(b'{"data":[')
    assert len(b"".join(parts)) < 20


async def test_a_huge_body_ends_when_its_reader_goes() -> None:
    """Two gigabytes, of which the client reads one megabyte."""
    simulator = a_simulator(Clock())
    armed = simulator.arm(Fault(kind=FaultKind.HUGE_BODY))
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(simulator) as base_url:
            async with raw_answer(base_url) as stream:
                received = 0
                while received < 1_000_000:
                    received += len(await stream.receive_some(2**16))
                assert simulator.counts.in_flight == 1
            while simulator.counts.in_flight:
                await trio.testing.wait_all_tasks_blocked(0.01)

    assert armed.fired == 1


def test_a_gzip_bomb_is_small_and_inflates_to_what_was_asked() -> None:
    size = 64 * 1024**2

    bomb = gzip_bomb(size)

    inflated = zlib.decompress(bomb, 31)
    assert len(bomb) < size / 500
    assert size <= len(inflated) < size + 100_000
    assert json.loads(inflated)["data"] == []


# counting


async def test_the_simulator_counts_what_it_served_and_what_is_in_flight() -> None:
    clock = Clock()
    simulator = a_simulator(clock)
    simulator.arm(Fault(kind=FaultKind.STALL, page=3, times=4))
    async with client_of(simulator) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(client.get, "/cars?page=3")
            while simulator.counts.in_flight < 4:
                await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        clock.seconds += 7
        for url in ("/cars?page=3", "/cars?page=1", "/cars?page=1", "/cars?page=1&minutes=5"):
            await client.get(url)

    counts = simulator.counts
    assert (counts.requests, counts.in_flight, counts.in_flight_max) == (8, 0, 4)
    assert counts.pages_served == {
        PageKey("/cars", 3, 15): 1,
        PageKey("/cars", 1, 15): 2,
        PageKey("/cars", 1, 15, minutes=5): 1,
    }
    assert [(entry.at, entry.query, entry.status) for entry in counts.log] == [
        *[(0.0, "page=3", 0)] * 4,
        (7.0, "page=3", 200),
        *[(7.0, "page=1", 200)] * 2,
        (7.0, "page=1&minutes=5", 200),
    ]
    counts.reset()
    assert (counts.requests, len(counts.log), len(counts.pages_served)) == (0, 0, 0)


# serving


async def test_an_error_of_the_served_block_leaves_it_as_it_is() -> None:
    with pytest.raises(LookupError, match="mine"):
        async with serve(a_simulator(Clock())):
            raise LookupError("mine")


async def test_a_connection_is_kept_for_the_next_request() -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(a_simulator(Clock())) as base_url, raw_answer(base_url) as stream:
            body = b""
            while not body.endswith(b"}}"):
                body += await stream.receive_some(2**16)
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: loopback\r\n\r\n")
            answer = await stream.receive_some(12)

    assert json.loads(body)["meta"]["current_page"] == 1
    assert answer == b"HTTP/1.1 401"


async def test_a_client_that_stopped_reading_does_not_hold_the_server() -> None:
    simulator = a_simulator(Clock())
    simulator.arm(Fault(kind=FaultKind.HUGE_BODY))
    with trio.fail_after(DEADLINE_SECONDS):
        async with AsyncExitStack() as outlasting:
            async with serve(simulator) as base_url:
                await outlasting.enter_async_context(raw_answer(base_url))
                await trio.testing.wait_all_tasks_blocked(0.1)
                left_at = trio.current_time()
            stopped_after_seconds = trio.current_time() - left_at

    assert stopped_after_seconds < 4


@contextmanager
def a_process(*options: str, **popen: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "syncd_cars.simulator", "--api-key", KEY, *options]
    source = Path(sys.modules["syncd_cars.simulator"].__file__ or "").parents[1]
    environment = os.environ | {"PYTHONPATH": str(source)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, **popen
    ) as process:
        try:
            assert process.stdout
            yield process, json.loads(process.stdout.readline())["base_url"]
        finally:
            process.kill()


def test_a_simulator_in_another_process_can_be_steered_and_stops_on_sigterm() -> None:
    with a_process("--cars", "300", "--rate", "1000", "--burst", "50", "--control") as started:
        process, base_url = started
        with httpx.Client(base_url=base_url, headers={"x-api-key": KEY}, trust_env=False) as client:
            page = client.get("/cars?per_page=1000").json()

            def steer(call: str, **body: object) -> Any:
                return client.post(f"/_simulator/{call}", json=body).json()

            changed = steer("change", share=0.01, seed=3)["ids"]
            inserted = steer("insert", cars=2)["ids"]
            archived = steer("archive", cars=4)["ids"]
            minutes = client.get("/cars?minutes=10").json()
            truth = client.get("/_simulator/cars?count=1000").json()
            steer("arm", kind="server_error", page=2)
            failed = client.get("/cars?page=2").status_code
            faults = client.get("/_simulator/faults").json()
            counts = client.get("/_simulator/counts").json()
            log = client.get("/_simulator/log").json()
            unfit = [
                client.post("/_simulator/arm", json={"kind": "earthquake"}).status_code,
                client.post("/_simulator/fly").status_code,
                client.get("/_simulator/counts", headers={"x-api-key": ""}).status_code,
            ]
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(DEADLINE_SECONDS)

    assert len(page["data"]) == 300
    assert (len(changed), len(inserted), len(archived)) == (3, 2, 4)
    assert {row["id"] for row in minutes["data"]} == {*changed, *inserted} - {*archived}
    assert truth["total"] == len(truth["rows"]) == 298
    assert failed == 503
    assert [(fault["fault"]["kind"], fault["fired"]) for fault in faults] == [("server_error", 1)]
    assert counts["requests"] == len(log) == 3
    assert [entry["status"] for entry in log] == [200, 200, 503]
    assert {served["times"] for served in counts["pages_served"]} == {1}
    assert unfit == [422, 404, 401]
    assert exit_code == 0


def test_a_simulator_told_so_exits_when_its_parent_is_gone() -> None:
    with a_process("--cars", "10", "--exit-with-parent", stdin=subprocess.PIPE) as (process, _):
        assert process.poll() is None
        assert process.stdin
        process.stdin.close()

        assert process.wait(DEADLINE_SECONDS) == 0


def test_the_simulator_needs_nothing_of_the_engine() -> None:
    program = (
        "import sys, syncd_cars.simulator_serving\n"
        "print(sorted({'psycopg', 'pluggy', 'syncd.run', 'syncd.store'} & set(sys.modules)))"
    )
    source = Path(sys.modules["syncd_cars.simulator"].__file__ or "").parents[1]
    environment = os.environ | {"PYTHONPATH": str(source)}

    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )

    assert found.stdout.strip() == b"[]"
