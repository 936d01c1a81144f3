"""Laws of the connector for Nhanh: what it declares, what it asks, how it waits for a lock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, cast

import attrs
import msgspec
import pytest
import trio
from daemons import Means
from judge import Allowed
from stand_ins import nhanh
from transport import Network, Weather
from world import World, equip, simulated

from syncd import (
    Account,
    Check,
    Context,
    Cursor,
    FixedWindow,
    Instance,
    Partition,
    Partitions,
    Request,
    Secret,
    SourceError,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd.config import parse, structure
from syncd.errors import InvalidConfig
from syncd.events import Event, LimitLocked
from syncd.http import Client, Limiters
from syncd.plugins import Plugins
from syncd_nhanh import plugin
from syncd_nhanh.plugin import CONNECTOR, CUSTOMERS, FEED, Settings, Store
from syncd_nhanh.simulator import APP_ID, Fault, Nhanh, Simulator
from syncd_nhanh.simulator_customers import Customers
from syncd_nhanh.simulator_serving import serve

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
STORE = 110_668
DEADLINE_SECONDS = 60


def store_of(**changed: Any) -> Store:
    return attrs.evolve(Store(business_id=STORE, token=Secret(f"token-{STORE}")), **changed)


def instance_of(settings: Settings) -> Instance[Settings]:
    return Instance("nhanh", CONNECTOR, settings, (Account("shop", store_of()),))


@attrs.frozen
class Upstream:
    """A served simulator, and a context as the core makes it."""

    simulator: Simulator
    context: Context[Settings, None]

    async def check(self) -> str:
        ask = cast("Check", plugin.check(instance_of(self.context.settings)))
        return await ask(self.context)


@asynccontextmanager
async def upstream(store: Store | None = None, **settings: Any) -> AsyncIterator[Upstream]:
    there = Nhanh({STORE: Customers(120)}, at=NOON.timestamp())
    simulator = Simulator(there, clock=NOON.timestamp)
    store = store or store_of()
    with trio.fail_after(DEADLINE_SECONDS):
        async with serve(simulator) as base_url:
            known = attrs.evolve(Settings(base_url=base_url, app_id=APP_ID), **settings)
            client = Client(
                "nhanh[shop]",
                plugin.upstream(known, store),
                limiters=Limiters(random=Random(0)),
                emit=lambda _: None,
                clock=lambda: NOON,
                random=Random(0),
            )
            where = Partition("nhanh", "shop", "customers")
            request = Request("full", None, NOON)
            async with client:
                account = Account("shop", store)
                context = Context(client.for_fetch(), account, known, None, where, request)
                yield Upstream(simulator, context)


# what is declared


def test_the_plugin_binds_its_feed() -> None:
    pipeline = Plugins({"nhanh": plugin}).pipeline(instance_of(Settings()), FEED)

    assert (pipeline.plugin, pipeline.partitions is None) == ("nhanh", False)
    assert [each.name for each in pipeline.transforms["customers"]] == ["customer_of"]


def test_the_plugin_answers_for_no_connector_but_its_own() -> None:
    other = attrs.evolve(instance_of(Settings()), connector=attrs.evolve(CONNECTOR, name="other"))

    for hook in (plugin.partitions, plugin.begin, plugin.fetch):
        assert hook(other, FEED) is None
    assert plugin.transform(other, CUSTOMERS) is None
    assert plugin.check(other) is None


def test_each_store_has_the_documented_limit_for_itself_and_its_token_goes_in_a_header() -> None:
    declared = plugin.upstream(Settings(in_flight=3), store_of())
    (quota,) = declared.quotas

    assert (quota.key, quota.per, quota.concurrency) == (FEED.quota, "account", 3)
    assert (quota.windows, quota.adaptive) == ((FixedWindow(150, per_seconds=30.0),), None)
    assert declared.headers["authorization"] == Secret(f"token-{STORE}")
    assert "token-" not in repr(declared)


@pytest.mark.parametrize(
    "wrong",
    [
        {"page_size": 0},
        {"page_size": 101},
        {"overlap_seconds": -1.0},
        {"full_every_seconds": -1.0},
        {"windows": ("2025-01-01", "2024-01-01")},
        {"windows": ("soon",)},
        {"in_flight": 0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"page_size|overlap|full_every|wanted|in_flight"):
        Settings(**wrong)


@pytest.mark.parametrize("wrong", [{"expires_at": "soon"}, {"windows": ("x",)}])
def test_settings_of_a_store_that_cannot_be_meant_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="wanted a moment"):
        store_of(**wrong)


def test_a_configuration_that_cannot_be_meant_is_refused_by_its_keys() -> None:
    text = (
        '[connectors.nhanh]\nwindows = ["2025-01-01", "2024-01-01"]\nfull_every = "weekly"\n'
        '[[connectors.nhanh.accounts]]\nname = "a"\ntoken = "x"\nexpires_at = "soon"\n'
    )
    with pytest.raises(InvalidConfig) as refused:
        structure(
            parse(text, file="syncd.toml", folder=Path.cwd()), {"nhanh": CONNECTOR}, environment={}
        )

    said = str(refused.value)
    assert "connectors.nhanh.windows" in said
    assert "wanted moments that ascend" in said
    assert "connectors.nhanh.full_every" in said
    assert "connectors.nhanh.accounts[0].business_id" in said
    assert "connectors.nhanh.accounts[0].expires_at" in said


def test_the_end_of_a_token_is_known_where_the_operator_has_said_so() -> None:
    assert plugin.expires_at(Settings(), store_of()) is None
    for text in ("2027-01-31", "1801353600"):
        ends_at = plugin.expires_at(Settings(), store_of(expires_at=text))
        assert ends_at == datetime(2027, 1, 31, tzinfo=UTC)


# what is asked


async def test_a_call_is_as_it_is_documented() -> None:
    async with upstream() as there:
        page = await plugin.customers(there.context, Cursor({"filters": {"updatedAtFrom": 5}}))
        (asked,) = there.simulator.log

    assert (asked.method, asked.path) == ("POST", "/v3.0/customer/list")
    assert asked.query == {"appId": str(APP_ID), "businessId": str(STORE)}
    assert asked.authorization == f"token-{STORE}"
    body = {"filters": {"updatedAtFrom": 5}, "paginator": {"size": 100}}
    assert msgspec.json.decode(asked.body) == body
    assert len(page.records["customers"]) == 100
    assert len(page.opens) == 1


async def test_a_store_may_have_an_app_and_windows_of_its_own() -> None:
    own = store_of(app_id=APP_ID, windows=("2024-01-01",))
    async with upstream(own, app_id=1, windows=("2022-01-01", "2023-01-01")) as there:
        cut = cast("Partitions", plugin.partitions(instance_of(there.context.settings), FEED))
        slices = await cut(there.context)
        await plugin.customers(there.context, Cursor({"filters": {}}))

    assert [each.name for each in slices] == [
        "before 2024-01-01",
        "2024-01-01 to now",
        "everything",
    ]


async def test_a_store_without_an_app_is_parked_before_anything_is_asked() -> None:
    async with upstream(app_id=None) as there:
        cut = cast("Partitions", plugin.partitions(instance_of(there.context.settings), FEED))
        with pytest.raises(Unauthorized, match="has no app_id; set app_id"):
            await cut(there.context)
        with pytest.raises(Unauthorized, match="has no app_id"):
            await there.check()

    assert there.simulator.log == []


async def test_the_check_asks_for_one_customer_or_when_the_token_ends() -> None:
    async with upstream() as there:
        assert await there.check() == "the token is accepted"
        assert b'"size":1' in there.simulator.log[0].body
    async with upstream(secret_key=Secret("an-invented-secret")) as there:
        assert await there.check() == "the token is accepted until 2027-11-22"
        assert there.simulator.log[1].path == "/v3.0/app/checkaccesstoken"
        assert there.simulator.log[1].body == b'{"secretKey":"an-invented-secret"}'
    async with upstream(secret_key=Secret("another-secret")) as there:
        said = "the token is accepted; when it ends was not told: ERR_INVALID_DATA"
        assert (await there.check()).startswith(said)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("html", STORE), Unavailable),
        (Fault("down", STORE), Unavailable),
        (Fault("error", STORE, code="ERR_403"), Unauthorized),
        (Fault("error", STORE, code="ERR_INVALID_VERSION"), Unintelligible),
    ],
)
async def test_the_check_says_what_is_wrong(fault: Fault, kind: type[SourceError]) -> None:
    async with upstream() as there:
        there.simulator.nhanh.faults.append(fault)
        with pytest.raises(kind):
            await there.check()
        assert fault.fired > (kind is Unavailable)  # it was asked again


# a lock


@pytest.mark.parametrize("real_statuses", [False, True])
def test_nobody_calls_while_locked_and_the_pass_goes_on_after_the_lock(
    dsn: str, *, real_statuses: bool
) -> None:
    """The operator has widened the limit beyond what the upstream allows."""
    there = nhanh.Upstream(
        {STORE: 2_000}, allowed=Allowed("sliding", 10, 30.0), real_statuses=real_statuses
    )
    (judge,) = there.judges.values()
    heard: list[Event] = []
    text = (
        f'[connectors.nhanh]\nbase_url = "https://{nhanh.HOST}"\napp_id = {APP_ID}\n'
        "[connectors.nhanh.quotas.customers]\nrequests = 1000\n"
        f'[[connectors.nhanh.accounts]]\nname = "shop"\nbusiness_id = {STORE}\n'
        f'token = "token-{STORE}"\n'
        '[jobs.all]\nconnector = "nhanh"\n'
    )
    world = World(
        dsn=dsn,
        seed=1,
        plugins={"nhanh": plugin},
        networks={nhanh.HOST: Network(there, weather=Weather(), random=Random(1))},
        configure=lambda: text,
        means=lambda world, plugins: Means(dsn, plugins, world.wire, world.tell),
    )
    world.listeners.append(lambda _, __, event: heard.append(event))

    async def main() -> Any:
        async with trio.open_nursery() as slots:
            slots.start_soon(world.keep, 0)
            await world.until_ready(1)
            world.ask("all")
            ended = await world.round_after("all", within_seconds=3600.0)
            world.end()
        return ended

    equip(dsn)
    ended = simulated(main, seed=1)

    assert ended is not None
    assert ended.status == "complete"
    assert (judge.breaches > 0, judge.calls_while_locked) == (True, 0)
    assert any(isinstance(event, LimitLocked) for event in heard)
    assert world.rows("SELECT count(*) AS rows FROM nhanh.customers") == [{"rows": 2_000}]
