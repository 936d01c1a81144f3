"""Laws of the cars connector: what it declares, where a pass begins, what it asks the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast
from urllib.parse import parse_qsl

import attrs
import pytest
import trio

from syncd import (
    Account,
    Check,
    Connector,
    Context,
    Cursor,
    CursorExpired,
    Instance,
    Partition,
    Partitions,
    Request,
    Secret,
    Slice,
    TokenBucket,
    Unauthorized,
)
from syncd.errors import HookError
from syncd.events import Event
from syncd.http import Client, Limiters
from syncd.plugins import Plugins
from syncd_cars import plugin
from syncd_cars.plugin import CARS, CONNECTOR, FEED, LOTS, MANUFACTURERS, REFERENCE, Settings
from syncd_cars.simulator import Inventory, Simulator
from syncd_cars.simulator_serving import serve

KEY = "an-invented-key"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
WHOLE = Partition("cars", "default", "cars")
DEADLINE_SECONDS = 60


def settings_of(**changed: Any) -> Settings:
    return Settings(api_key=Secret(KEY), **({"requests_per_second": 1000.0} | changed))


def instance_of(settings: Settings, connector: Connector = CONNECTOR) -> Instance[Settings]:
    return Instance("cars", connector, settings, (Account("default", None),))


@attrs.frozen
class Upstream:
    """A served simulator, and contexts as the core makes them."""

    simulator: Simulator
    settings: Settings
    client: Client

    def context(self, part: Slice | None = None) -> Context[Settings, None]:
        where = attrs.evolve(WHOLE, slice=part or Slice())
        request = Request("full", None, NOON)
        return Context(
            self.client.for_fetch(), Account("default", None), self.settings, None, where, request
        )

    @property
    def asked(self) -> list[tuple[str, dict[str, str]]]:
        log = self.simulator.counts.log
        return [(entry.path, dict(parse_qsl(entry.query))) for entry in log]


@asynccontextmanager
async def upstream(
    *, key: str = KEY, now: datetime = NOON, inventory: Inventory | None = None, **changed: Any
) -> AsyncIterator[Upstream]:
    simulator = Simulator(inventory or Inventory(120, seed=2), api_key=KEY)
    events: list[Event] = []
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(simulator) as base_url:
            settings = settings_of(base_url=base_url, **changed)
            declared = plugin.upstream(attrs.evolve(settings, api_key=Secret(key)), None)
            client = Client(
                "cars",
                declared,
                limiters=Limiters(random=Random(0)),
                emit=events.append,
                clock=lambda: now,
                random=Random(0),
            )
            async with client:
                yield Upstream(simulator, settings, client)


# what is declared


def test_the_plugin_binds_both_of_its_feeds() -> None:
    plugins = Plugins.load(("cars",))
    instance = instance_of(settings_of())

    cars, reference = plugins.pipeline(instance, FEED), plugins.pipeline(instance, REFERENCE)

    assert plugins.connectors == {"cars": CONNECTOR}
    assert (cars.plugin, set(cars.transforms)) == ("cars", {"cars", "lots"})
    assert [each.name for each in cars.transforms["cars"]] == ["car_of"]
    assert [each.name for each in cars.transforms["lots"]] == ["lot_of"]
    assert (cars.partitions is None, reference.partitions is None) == (False, True)
    assert reference.transforms == {"manufacturers": ()}
    assert plugins.check(instance) is not None


def test_the_plugin_answers_for_no_connector_but_its_own() -> None:
    other = instance_of(settings_of(), attrs.evolve(CONNECTOR, name="others"))

    for feed in (FEED, REFERENCE):
        assert plugin.partitions(other, feed) is None
        assert plugin.begin(other, feed) is None
        assert plugin.fetch(other, feed) is None
    for stream in (CARS, LOTS, MANUFACTURERS):
        assert plugin.transform(other, stream) is None
    assert plugin.check(other) is None
    with pytest.raises(HookError, match="no plugin answers begin"):
        Plugins.load(("cars",)).pipeline(other, FEED)


def test_the_key_goes_in_a_header_and_into_no_text() -> None:
    declared = plugin.upstream(settings_of(), None)

    assert declared.headers["x-api-key"] == Secret(KEY)
    assert declared.headers["accept"] == "application/json"
    assert KEY not in repr(declared)
    assert KEY not in repr(settings_of())
    assert KEY not in declared.base_url


@pytest.mark.parametrize(("rate", "seconds"), [(1.0, 1.0), (4.0, 0.25), (0.5, 2.0)])
def test_one_quota_holds_for_the_whole_account(rate: float, seconds: float) -> None:
    (quota,) = plugin.upstream(settings_of(requests_per_second=rate, in_flight=3), None).quotas

    assert quota.windows == (TokenBucket(1, per_seconds=seconds, burst=1),)
    assert quota.concurrency == 3
    assert quota.adaptive is None
    assert {FEED.quota, REFERENCE.quota} == {quota.key}


@pytest.mark.parametrize(
    "wrong",
    [{"per_page": 0}, {"per_page": 1001}, {"requests_per_second": 0.0}, {"in_flight": 0}],
)
def test_settings_that_the_api_refuses_are_refused_before(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings_of(**wrong)


# where a pass begins


def begun(mode: Any, since: datetime | None) -> Any:
    first = plugin.begin(instance_of(settings_of()), FEED)
    return first(WHOLE, Request(mode, since, NOON), NOON)


def test_a_full_pass_begins_at_page_one_with_no_window() -> None:
    answered = begun("full", None)

    assert (answered.mode, answered.cursors) == ("full", (Cursor({}, number=1),))


def test_an_incremental_pass_carries_its_start_in_its_cursor() -> None:
    since = NOON - timedelta(hours=1)

    answered = begun("incremental", since)

    assert answered.mode == "incremental"
    assert answered.cursors == (Cursor({"since": since.isoformat()}, number=1),)


@pytest.mark.parametrize(
    ("age", "mode"),
    [
        (timedelta(minutes=4305), "incremental"),
        (timedelta(minutes=4305, microseconds=1), "full"),
        (timedelta(days=30), "full"),
    ],
)
def test_a_start_the_api_has_forgotten_makes_the_pass_full(age: timedelta, mode: str) -> None:
    answered = begun("incremental", NOON - age)

    assert answered.mode == mode
    assert (answered.cursors[0].value == {}) == (mode == "full")


# what is asked


async def test_a_page_is_asked_for_with_the_window_of_the_moment_it_is_asked_at() -> None:
    since = NOON - timedelta(minutes=90, seconds=1)
    cursor = Cursor({"since": since.isoformat()}, number=3)
    async with upstream(per_page=50, totals=True) as there:
        page = await plugin.cars(there.context(), cursor)

    assert there.asked == [
        ("/cars", {"page": "3", "per_page": "50", "minutes": "106", "simple_paginate": "0"})
    ]
    assert page.empty


async def test_a_page_whose_window_has_expired_is_not_asked_for() -> None:
    since = NOON - timedelta(minutes=4306)
    async with upstream() as there:
        with pytest.raises(CursorExpired):
            await plugin.cars(there.context(), Cursor({"since": since.isoformat()}, number=3))

    assert there.asked == []


async def test_a_slice_narrows_its_pages_to_its_brands() -> None:
    async with upstream(per_page=50) as there:
        part = Slice("priority", {"manufacturer_ids": [11, 12]})
        page = await plugin.cars(there.context(part), Cursor({}, number=1))

    assert there.asked == [("/cars", {"page": "1", "per_page": "50", "manufacturer_id": "11,12"})]
    brands = [(car.get("manufacturer") or {}).get("id") for car in there.simulator.inventory.cars()]
    assert len(page.records["cars"]) == sum(brand in {11, 12} for brand in brands) > 0


async def test_pages_of_manufacturers_know_their_end() -> None:
    async with upstream(per_page=20) as there:
        first = await plugin.manufacturers(there.context(), Cursor({}, number=1))
        second = await plugin.manufacturers(there.context(), Cursor({}, number=2))

    assert (first.end, len(first.records["manufacturers"])) == (False, 20)
    assert (second.end, len(second.records["manufacturers"])) == (True, 7)


# the priority brands


async def slices_of(there: Upstream) -> list[Slice]:
    function = cast("Partitions", plugin.partitions(instance_of(there.settings), FEED))
    return list(await function(there.context()))


async def test_priority_brands_are_found_by_name_whatever_their_case_and_stand_first() -> None:
    async with upstream(per_page=10, priority_brands=("bmw", "AUDI", "škoda")) as there:
        slices = await slices_of(there)

    ids = {each["name"]: each["id"] for each in there.simulator.inventory.manufacturers()}
    wanted = sorted([ids["BMW"], ids["Audi"], ids["Škoda"]])
    assert slices == [Slice("priority", {"manufacturer_ids": wanted}, 3600), Slice()]


async def test_the_look_up_ends_as_soon_as_every_brand_is_found() -> None:
    async with upstream(per_page=10, priority_brands=("Audi",)) as there:
        await slices_of(there)

    assert [query["page"] for _, query in there.asked] == ["1"]


async def test_a_brand_nobody_knows_is_looked_for_to_the_end_and_left_out() -> None:
    async with upstream(per_page=10, priority_brands=("Audi", "Example Motors")) as there:
        slices = await slices_of(there)

    assert [query["page"] for _, query in there.asked] == ["1", "2", "3"]
    assert [each.name for each in slices] == ["priority", ""]
    assert slices[0].settings == {"manufacturer_ids": [11]}


async def test_only_unknown_brands_leave_the_whole_feed() -> None:
    async with upstream(per_page=1000, priority_brands=("Example Motors",)) as there:
        assert await slices_of(there) == [Slice()]


async def test_no_priority_brands_ask_the_api_nothing() -> None:
    async with upstream(priority_brands=()) as there:
        assert await slices_of(there) == [Slice()]

    assert there.asked == []


class ManyBrands(Inventory):
    """An upstream whose list of manufacturers is what a test says."""

    def __init__(self, brands: list[dict[str, Any]]) -> None:
        super().__init__(10, seed=2)
        self._brands = brands

    def manufacturers(self) -> list[dict[str, Any]]:
        return self._brands


async def test_a_manufacturer_that_cannot_be_read_hides_no_other_one() -> None:
    odd: list[dict[str, Any]] = [
        {"id": None, "name": "BMW"},
        {"id": "12", "name": "Audi"},
        {"id": 13, "name": None},
        {"id": 14, "name": "Audi"},
    ]
    async with upstream(inventory=ManyBrands(odd), priority_brands=("Audi", "BMW")) as there:
        slices = await slices_of(there)

    assert slices[0].settings == {"manufacturer_ids": [14]}


async def test_a_list_of_manufacturers_without_an_end_is_not_walked_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plugin, "LOOK_UP_PAGES_MAX", 5)
    endless = [{"id": n, "name": f"brand {n}"} for n in range(1000)]
    async with upstream(
        inventory=ManyBrands(endless), per_page=10, priority_brands=("Example Motors",)
    ) as there:
        assert await slices_of(there) == [Slice()]

    assert [query["page"] for _, query in there.asked] == ["1", "2", "3", "4", "5"]


# the check


async def checked(there: Upstream) -> str:
    ask = cast("Check", plugin.check(instance_of(there.settings)))
    return await ask(there.context())


async def test_the_check_says_that_the_key_is_accepted_and_which_brands_are_unknown() -> None:
    async with upstream(priority_brands=("Audi", "BMW")) as there:
        assert await checked(there) == "the key is accepted; 2 priority brands found"
    async with upstream(priority_brands=("Audi", "Example Motors")) as there:
        said = "the key is accepted; no manufacturer is named Example Motors"
        assert await checked(there) == said


async def test_the_check_says_that_the_key_is_refused() -> None:
    async with upstream(key="another-key") as there:
        with pytest.raises(Unauthorized, match="the credential is refused"):
            await checked(there)


async def test_the_check_asks_the_api_even_where_no_brand_is_wanted() -> None:
    async with upstream(key="another-key", priority_brands=()) as there:
        with pytest.raises(Unauthorized):
            await checked(there)
