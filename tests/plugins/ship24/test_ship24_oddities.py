"""Laws of what Ship24 is allowed to answer, or happens to, and rarely does: over real HTTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest
import trio
from processes import seen

from syncd import (
    Account,
    Context,
    Dead,
    Delivered,
    Partition,
    Queued,
    Request,
    Retry,
    Secret,
    Throttled,
    Unavailable,
    Unintelligible,
)
from syncd.http import Client, Limiters
from syncd.testing import serve
from syncd_ship24 import plugin
from syncd_ship24.plugin import registered
from syncd_ship24.simulator import API_KEY, JOURNEY, PREFIX, Ship24, Simulator

DEADLINE_SECONDS = 90.0  # what hangs must fail, on a busy machine too


@asynccontextmanager
async def served(upstream: Ship24) -> AsyncIterator[Context[plugin.Settings, None]]:
    """Serve an upstream; yield a context whose requests are those of a delivery."""
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(Simulator(upstream)) as base_url:
            known = plugin.Settings(api_key=Secret(API_KEY), base_url=f"{base_url}{PREFIX}")
            client = Client(
                "ship24",
                plugin.upstream(known, None),
                limiters=Limiters(random=Random(0)),
                emit=lambda _: None,
                clock=lambda: datetime.now(UTC),
                random=Random(0),
            )
            where = Partition("ship24", "default", "trackers")
            request = Request("full", None, datetime.now(UTC))
            async with client:
                http = client.for_fetch(traffic="effect")
                yield Context(http, Account("default", None), known, None, where, request)


def effects(*sent: str, **more: Any) -> list[Queued]:
    return [
        Queued(place, f"key {place}", {"trackingNumber": number, **more})
        for place, number in enumerate(sent, start=1)
    ]


def numbers(count: int) -> list[str]:
    return [f"1Z999AA1{place:010}" for place in range(count)]


async def test_items_that_say_no_more_than_they_must_are_understood() -> None:
    upstream = Ship24()
    upstream.odd.bare = True
    upstream.odd.codes["AAAAA1"] = "validation_error"
    async with served(upstream) as ctx:
        first = await registered(ctx, effects("AAAAA1", *numbers(20)))
        again = await registered(ctx, effects("AAAAA1", *numbers(20)))

    assert first[1] == Retry("error"), "nobody said why: it may pass"
    assert [first[place] for place in range(2, 22)] == [Delivered({"itemStatus": "created"})] * 20
    assert again[2] == Delivered({"itemStatus": "existing"})
    assert [each.endpoint for each in upstream.asked] == ["bulk", "bulk"]


async def test_codes_that_nobody_knows_are_tried_again_and_pass() -> None:
    upstream = Ship24()
    upstream.odd.codes |= {"AAAAA1": "server_error", "BBBBB2": "shipping_date_outdated"}
    async with served(upstream) as ctx:
        first = await registered(ctx, effects("AAAAA1", "BBBBB2", "CCCCC3"))
        upstream.odd.codes.clear()
        again = await registered(ctx, effects("AAAAA1"))

    assert [type(first[place]) for place in (1, 2, 3)] == [Retry, Dead, Delivered]
    assert isinstance(again[1], Delivered)


async def test_a_bulk_with_items_that_cannot_be_read_is_asked_once() -> None:
    upstream = Ship24()
    sent = ["1234567", *numbers(99)]
    upstream.odd.inputs |= {sent[0]: {"trackingNumber": 1234567}, sent[1]: sent[1], sent[2]: None}
    async with served(upstream) as ctx:
        found = await registered(ctx, effects(*sent))

    assert found.keys() == set(range(1, 101)) - {2, 3}
    assert {type(each) for each in found.values()} == {Delivered}
    assert [each.trackers for each in upstream.asked] == [100]


async def test_a_quota_that_ends_within_a_bulk_costs_time_once_the_others_are_recorded() -> None:
    upstream = Ship24(quota=3)
    upstream.odd.quota_by_item = True
    async with served(upstream) as ctx:
        first = await registered(ctx, effects(*numbers(5)))
        over = [each for each in effects(*numbers(5)) if isinstance(first[each.id], Retry)]
        with pytest.raises(Throttled, match="quota_limit_reached"):
            await registered(ctx, over)
        upstream.quota = 2
        again = await registered(ctx, over)

    assert Counter(type(each) for each in first.values()) == {Delivered: 3, Retry: 2}
    assert {type(each) for each in again.values()} == {Delivered}
    assert len(upstream.parcels) == 5


async def test_what_passed_is_recorded_though_a_later_request_of_the_call_is_refused() -> None:
    upstream = Ship24(quota=1)
    twice = [
        Queued(place, f"key {place}", {"trackingNumber": "AAAAA1", "title": f"PO {place}"})
        for place in (1, 2, 3)
    ]
    async with served(upstream) as ctx:
        found = await registered(ctx, twice)

    assert [type(found[place]) for place in (1, 2, 3)] == [Delivered, Retry, Retry]
    assert {each.seconds for each in found.values() if isinstance(each, Retry)} == {900.0}
    assert [each.status for each in upstream.asked][1:] == [403], "the third would be told the same"


@pytest.mark.parametrize("status", [200, 404])
async def test_a_page_of_something_before_the_api_is_an_outage_and_nobodys_attempt(
    status: int,
) -> None:
    upstream = Ship24()
    upstream.odd.pages.extend([status] * 8)
    async with served(upstream) as ctx:
        with pytest.raises(Unavailable, match="back soon"):
            await registered(ctx, effects("AAAAA1", "BBBBB2"))
        assert not upstream.parcels
        upstream.odd.pages.append(status)
        with pytest.raises(Unintelligible, match="back soon"):
            await ctx.http.get("/trackers/x/results", quota=plugin.RESULTS)
        upstream.odd.pages.clear()
        found = await registered(ctx, effects("AAAAA1", "BBBBB2"))

    assert {type(each) for each in found.values()} == {Delivered}


async def test_a_call_that_never_answers_was_perhaps_taken_and_makes_no_second_tracker() -> None:
    upstream = Ship24()
    upstream.odd.silent = 1
    async with served(upstream) as ctx, trio.open_nursery() as nursery:
        nursery.start_soon(registered, ctx, effects(*numbers(4)))
        await seen("the call", lambda: upstream.asked)
        nursery.cancel_scope.cancel()  # as at the kind's deadline
    taken = dict(upstream.parcels)
    async with served(upstream) as ctx:
        found = await registered(ctx, effects(*numbers(4)))

    assert len(taken) == 4
    assert upstream.parcels == taken
    ids = {parcel.number: parcel.tracker_id for parcel in taken.values()}
    assert found == {
        place: Delivered({"trackerId": ids[number], "itemStatus": "existing"})
        for place, number in enumerate(numbers(4), start=1)
    }


def test_a_message_of_the_proof_of_delivery_follows_the_last_event() -> None:
    upstream = Ship24()
    upstream.odd.pod = True
    parcel, _ = upstream.register({"trackingNumber": "AAAAA1"})
    upstream.happen(parcel, len(JOURNEY))
    bodies = {each.message_id: each.body for each in upstream.webhooks.due()}
    told = [msgspec.json.decode(body)["trackings"][0] for body in bodies.values()]
    told.sort(key=lambda each: each["metadata"]["generatedAt"])

    topics = [each["metadata"]["topic"] for each in told]
    assert topics == ["tracking/events"] * len(JOURNEY) + ["tracking/pod"]
    assert told[-1]["events"] == []
    assert len({each["metadata"]["generatedAt"] for each in told}) == len(told)
