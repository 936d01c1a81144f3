"""Laws of the stand-in for Ship24, and of deliveries to it over real HTTP."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import trio

from syncd import (
    Account,
    Context,
    Dead,
    Delivered,
    Partition,
    Queued,
    Request,
    Secret,
    Throttled,
    Unauthorized,
    Unavailable,
)
from syncd.config import parse, structure
from syncd.events import Event, RequestRetried
from syncd.http import Client, Limiters
from syncd.testing import serve
from syncd_ship24 import plugin, times
from syncd_ship24.plugin import CONNECTOR, registered
from syncd_ship24.simulator import API_KEY, JOURNEY, PREFIX, Call, Reply, Ship24, Simulator

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = {"authorization": f"Bearer {API_KEY}"}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


def asked(upstream: Ship24, method: str, path: str, body: Any = None, **query: str | int) -> Reply:
    encoded = msgspec.json.encode(body) if body is not None else b""
    words = {name: str(value) for name, value in query.items()}
    return upstream.answer(Call(method, path, words, KEY, encoded))


def bulk(upstream: Ship24, *numbers: Any, **more: Any) -> Reply:
    body = [{"trackingNumber": number, **more} for number in numbers]
    return asked(upstream, "POST", "/trackers/bulk", body)


def numbers(count: int) -> list[str]:
    return [f"1Z999AA1{place:010}" for place in range(count)]


# --- The stand-in ---------------------------------------------------------------------------------


def test_the_same_body_names_the_same_tracker_and_any_other_makes_one_more() -> None:
    upstream = Ship24(now=lambda: NOON)
    first, again = bulk(upstream, "AAAAA1").json, bulk(upstream, "AAAAA1").json
    other = bulk(upstream, "AAAAA1", title="PO 4711").json

    found = [each["data"][0] for each in (first, again, other)]
    assert [each["itemStatus"] for each in found] == ["created", "existing", "created"]
    ids = [each["tracker"]["trackerId"] for each in found]
    assert ids[0] == ids[1] != ids[2]
    assert len(upstream.parcels) == 2


def test_a_bulk_tells_of_each_item_and_in_another_order() -> None:
    upstream = Ship24(now=lambda: NOON)
    sent = numbers(40)
    bulk(upstream, *sent[:10])
    reply = bulk(upstream, *sent, "x", "y")

    said = reply.json
    order = [each["inputData"]["trackingNumber"] for each in said["data"]]
    assert (reply.status, said["status"]) == (207, "partial")
    assert said["summary"] == {
        "totalInputs": 42, "totalCreated": 30, "totalExisting": 10, "totalErrors": 2,
    }  # fmt: skip
    assert sorted(order) == sorted([*sent, "x", "y"])
    assert order != [*sent, "x", "y"]
    refused = [each for each in said["data"] if each["itemStatus"] == "error"]
    assert {each["errors"][0]["code"] for each in refused} == {"validation_error"}
    assert not any(each.get("tracker") for each in refused)


def test_a_bulk_of_more_than_a_hundred_or_of_nothing_good_is_refused_as_a_whole() -> None:
    upstream = Ship24(now=lambda: NOON)
    over, nothing = bulk(upstream, *numbers(101)), bulk(upstream, "x", None)

    assert (over.status, over.json["error"]["code"]) == (403, "bulk_create_limit_exceeded")
    assert (nothing.status, nothing.json["error"]["code"]) == (400, "processing_error")
    assert upstream.parcels == {}


@pytest.mark.parametrize("status", [402, 403, 405])
def test_a_quota_ends_in_the_middle_and_existing_trackers_still_pass(status: int) -> None:
    upstream = Ship24(now=lambda: NOON, quota=3, quota_status=status)
    assert bulk(upstream, *numbers(3)).status in {200, 201}

    over = bulk(upstream, *numbers(4))
    assert (over.status, over.json["error"]["code"]) == (status, "quota_limit_reached")
    assert bulk(upstream, *numbers(3)).status in {200, 201}
    assert len(upstream.parcels) == 3


def test_a_client_id_is_held_by_one_tracker() -> None:
    upstream = Ship24(now=lambda: NOON)
    bulk(upstream, "AAAAA1", clientTrackerId="ship-1")
    said = bulk(upstream, "BBBBB2", "CCCCC3", clientTrackerId="ship-1").json["data"]

    assert {each["errors"][0]["code"] for each in said} == {"tracker_conflict"}
    found = asked(upstream, "GET", "/trackers/ship-1", searchBy="clientTrackerId").json
    assert found["data"]["tracker"]["trackingNumber"] == "AAAAA1"


def test_each_endpoint_has_a_limit_of_its_own_and_says_so_in_two_dialects() -> None:
    clock = Clock()
    upstream = Ship24(now=clock)
    statuses = Counter(bulk(upstream, "AAAAA1").status for _ in range(5))
    refused = bulk(upstream, "AAAAA1")
    lists = [asked(upstream, "GET", "/trackers", page=1, limit=9).status for _ in range(10)]

    assert statuses[429] == 2
    assert (refused.status, refused.body) == (429, b"Too Many Requests")
    assert refused.headers["content-type"] == "text/plain"
    assert refused.headers["retry-after"] == "1"
    assert float(refused.headers["ratelimit-reset"]) <= 1
    assert float(refused.headers["x-ratelimit-reset"]) > NOON.timestamp()
    assert set(lists) == {200}
    clock.at += timedelta(seconds=1)
    assert bulk(upstream, "AAAAA1").status != 429


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({}, 400, "auth_missing_header"),
        ({"authorization": "Basic x"}, 400, "auth_invalid_header"),
        ({"authorization": "Bearer x"}, 401, "auth_invalid_api_key"),
    ],
)
def test_who_has_no_key_is_refused(given: dict[str, str], status: int, code: str) -> None:
    reply = Ship24(now=lambda: NOON).answer(Call("GET", "/trackers", {}, given))

    assert (reply.status, reply.json["errors"][0]["code"]) == (status, code)


def test_times_come_in_all_shapes_and_deprecated_keys_are_still_there() -> None:
    upstream = Ship24(now=lambda: NOON, limits=False)
    events: list[dict[str, Any]] = []
    for number in numbers(8):
        parcel, _ = upstream.register({"trackingNumber": number})
        upstream.happen(parcel, len(JOURNEY))
        path = f"/trackers/{parcel.tracker_id}/results"
        (tracking,) = asked(upstream, "GET", path).json["data"]["trackings"]
        assert tracking["shipment"]["statusMilestone"] == "delivered"
        events += tracking["events"]

    said = [each["occurrenceDatetime"] for each in events]
    assert sum(len(text) == 10 for text in said) > 3
    assert sum(text.endswith("Z") for text in said) > 3
    assert sum(text.endswith("+08:00") for text in said) > 3
    assert sum(len(text) == 19 for text in said) > 3
    assert all(times.order_of(text) for text in said)
    assert any("hasNoTime" in each for each in events)
    assert len({each["eventId"] for each in events}) == len(events)


def test_messages_come_at_least_once_in_no_order_and_twice_until_they_are_heard() -> None:
    upstream = Ship24(now=lambda: NOON)
    for number in numbers(6):
        parcel, _ = upstream.register({"trackingNumber": number})
        upstream.happen(parcel, 5)
    first = list(upstream.webhooks.due())
    ids = [each.message_id for each in first]

    assert len(set(ids)) == len(upstream.webhooks) == 30
    assert len(ids) > 30
    generated = [msgspec.json.decode(each.body)["trackings"][0]["events"][0] for each in first]
    assert [each["eventId"] for each in generated] != sorted(each["eventId"] for each in generated)

    assert not upstream.webhooks.answered(first[0], 503, b"")
    assert not upstream.webhooks.answered(first[0], 200, b'{"success":false}')
    assert len(upstream.webhooks) == 30
    assert upstream.webhooks.answered(first[0], 200, b'{"success":true}')
    for each in first:
        upstream.webhooks.answered(each, 204, b"")
    assert len(upstream.webhooks) == 0
    assert list(upstream.webhooks.due()), "some of what was heard comes again"


def test_a_resend_tells_all_events_of_a_tracker_anew() -> None:
    upstream = Ship24(now=lambda: NOON)
    parcel, _ = upstream.register({"trackingNumber": "AAAAA1"})
    upstream.happen(parcel, 4)
    for each in list(upstream.webhooks.due()):
        upstream.webhooks.answered(each, 200, b"")
    reply = asked(upstream, "POST", f"/trackers/{parcel.tracker_id}/webhook-events/resend")

    assert reply.json == {"data": {"summary": {"totalResent": 4}}}
    assert len(upstream.webhooks) == 4


def test_the_list_pages_by_number_and_wants_both_parameters() -> None:
    upstream = Ship24(now=lambda: NOON, limits=False)
    for number in numbers(25):
        upstream.register({"trackingNumber": number})

    pages = [
        asked(upstream, "GET", "/trackers", page=page, limit=10, sort=-1).json["data"]["trackers"]
        for page in (1, 2, 3, 4)
    ]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert pages[0][0]["trackingNumber"] == numbers(25)[-1]
    assert asked(upstream, "GET", "/trackers", page=1).status == 400
    assert asked(upstream, "GET", "/trackers", page=1, limit=501).status == 400


def test_slow_and_down_are_said_without_waiting() -> None:
    upstream = Ship24(now=lambda: NOON)
    upstream.mode = "slow"
    slow = bulk(upstream, "AAAAA1")
    upstream.mode = "down"
    down = bulk(upstream, "BBBBB2")

    assert (slow.seconds, slow.status < 300) == (30.0, True)
    assert (down.status, len(upstream.parcels)) == (503, 1)


def test_the_simulator_is_a_program_that_says_how_to_ask_it_and_ends_with_its_parent() -> None:
    command = [sys.executable, "-m", "syncd_ship24.simulator", "--trackers", "20"]
    with subprocess.Popen(
        [*command, "--exit-with-parent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = msgspec.json.decode(process.stdout.readline())
        raw = parse(said["configuration"], file="said.toml", folder=Path.cwd())
        config = structure(raw, {"ship24": CONNECTOR}, environment={})
        settings = config.instances["ship24"].settings
        request = urllib.request.Request(
            f"{settings.base_url}/trackers?page=1&limit=500",
            headers={"authorization": f"Bearer {settings.api_key.reveal()}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            trackers = msgspec.json.decode(answer.read())["data"]["trackers"]
        process.stdin.write(b"change 1.0\n")
        process.stdin.flush()
        changed = msgspec.json.decode(process.stdout.readline())
        process.stdin.close()
        assert process.wait(timeout=30) == 0

    assert len(trackers) == 20
    assert 0 < changed["changed"] <= 20
    assert config.jobs["ship24"].connector == "ship24"


# --- Deliveries over HTTP -------------------------------------------------------------------------


DEADLINE_SECONDS = 90.0  # what hangs must fail, on a busy machine too


@asynccontextmanager
async def served(
    upstream: Ship24, events: list[Event] | None = None
) -> AsyncIterator[Context[plugin.Settings, None]]:
    """Serve an upstream; yield a context whose requests are those of a delivery."""
    noted = [] if events is None else events
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(Simulator(upstream)) as base_url:
            known = plugin.Settings(api_key=Secret(API_KEY), base_url=f"{base_url}{PREFIX}")
            client = Client(
                "ship24",
                plugin.upstream(known, None),
                limiters=Limiters(random=Random(0)),
                emit=noted.append,
                clock=lambda: datetime.now(UTC),
                random=Random(0),
            )
            where = Partition("ship24", "default", "trackers")
            request = Request("full", None, datetime.now(UTC))
            async with client:
                http = client.for_fetch(traffic="effect")
                account = Account("default", None)
                yield Context(http, account, known, None, where, request)


def effects(*sent: Any, **more: Any) -> list[Queued]:
    return [
        Queued(place, f"key {place}", {"trackingNumber": number, **more})
        for place, number in enumerate(sent, start=1)
    ]


async def test_a_hundred_trackers_are_registered_by_one_request_and_again_by_none_twice() -> None:
    upstream = Ship24()
    async with served(upstream) as ctx:
        queued = effects(*numbers(99), "not a number!")
        first = await registered(ctx, queued)
        again = await registered(ctx, queued)

    assert Counter(type(each) for each in first.values()) == {Delivered: 99, Dead: 1}
    assert isinstance(first[100], Dead)
    given = {each.asked["trackingNumber"]: each.tracker_id for each in upstream.parcels.values()}
    for place, number in enumerate(numbers(99), start=1):
        made = {"trackerId": given[number], "itemStatus": "created"}
        assert first[place] == Delivered(made)
        assert again[place] == Delivered({**made, "itemStatus": "existing"})
    assert again.keys() == first.keys()
    assert len(upstream.parcels) == 99
    assert [each.endpoint for each in upstream.asked] == ["bulk", "bulk"]


async def test_an_answer_that_is_lost_after_the_provider_took_it_makes_no_second_tracker() -> None:
    upstream, events = Ship24(), list[Event]()
    upstream.lost = 1
    async with served(upstream, events) as ctx:
        found = await registered(ctx, effects(*numbers(30)))

    assert Counter(type(each) for each in found.values()) == {Delivered: 30}
    assert len(upstream.parcels) == 30
    assert {each.reason for each in events if isinstance(each, RequestRetried)} == {"unavailable"}


async def test_a_429_in_plain_text_and_a_conflict_are_waited_for() -> None:
    upstream = Ship24()
    upstream.refusals.append((409, "request_conflict"))
    for _ in range(3):  # somebody else has used the second up
        bulk(upstream, "BBBBB2")
    async with served(upstream) as ctx:
        found = await registered(ctx, effects("AAAAA1"))

    assert isinstance(found[1], Delivered)
    assert {409, 429} < {each.status for each in upstream.asked}


@pytest.mark.parametrize("status", [402, 403, 405])
async def test_a_quota_at_its_end_is_no_refused_key_and_passes_when_there_is_more(
    status: int,
) -> None:
    upstream = Ship24(quota=2, quota_status=status)
    async with served(upstream) as ctx:
        with pytest.raises(Throttled, match="quota_limit_reached"):
            await registered(ctx, effects(*numbers(3)))
        upstream.quota = 10
        found = await registered(ctx, effects(*numbers(3)))

    assert Counter(type(each) for each in found.values()) == {Delivered: 3}


async def test_one_number_for_two_shipments_makes_two_requests() -> None:
    upstream = Ship24()
    queued = [
        Queued(1, "a", {"trackingNumber": "AAAAA1", "shipmentReference": "PO 1"}),
        Queued(2, "b", {"trackingNumber": "aaaaa1", "shipmentReference": "PO 2"}),
    ]
    async with served(upstream) as ctx:
        found = await registered(ctx, queued)

    assert all(isinstance(each, Delivered) for each in found.values())
    assert [each.trackers for each in upstream.asked] == [1, 1]
    assert len(upstream.parcels) == 2


async def test_a_refused_key_and_a_provider_that_is_down_are_raised() -> None:
    upstream = Ship24()
    upstream.refusals.append((401, "auth_invalid_api_key"))
    async with served(upstream) as ctx:
        with pytest.raises(Unauthorized, match="auth_invalid_api_key"):
            await registered(ctx, effects("AAAAA1"))
        upstream.mode = "down"
        with pytest.raises(Unavailable):
            await registered(ctx, effects("AAAAA1"))
    assert upstream.parcels == {}
