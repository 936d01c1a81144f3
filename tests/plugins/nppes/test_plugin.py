"""Laws of the NPPES connector: what it declares, what it refuses, what it asks the registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio

from syncd import (
    Account,
    Context,
    Instance,
    Partition,
    Request,
    Slice,
    SlidingWindow,
    Unavailable,
    Unintelligible,
)
from syncd.config import parse, structure
from syncd.errors import InvalidConfig
from syncd.http import Client, Limiters
from syncd.plugins import Plugins
from syncd_nppes import plugin
from syncd_nppes.api import Ask
from syncd_nppes.plugin import CONNECTOR, DERIVED, FEED, LEADS, PROVIDERS, Settings
from syncd_nppes.simulator import Registry, Simulator, serve
from syncd_nppes.simulator_providers import invented

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
INTERNAL = {"taxonomy_description": "Internal Medicine"}
PLUGINS = Plugins({"nppes": plugin})


def settings_of(**changed: Any) -> Settings:
    wanted: dict[str, Any] = {"specialties": ("Internal Medicine",), "requests_per_second": 1000}
    return Settings(**wanted | changed)


def instance_of(settings: Settings) -> Instance[Settings]:
    return Instance("nppes", CONNECTOR, settings, (Account("default", None),))


def configured(text: str) -> Any:
    raw = parse(f"[connectors.nppes]\n{text}", file="syncd.toml", folder=Path.cwd())
    return structure(raw, PLUGINS.connectors, environment={}).instances["nppes"].settings


@asynccontextmanager
async def registry(**changed: Any) -> AsyncIterator[tuple[Registry, Context[Settings, None]]]:
    """Serve 30 providers; yield the context of a fetch, as the core makes it."""
    known = Registry(invented(30, seed=2, specialties=["Internal Medicine"]))
    with trio.fail_after(60.0):
        async with serve(Simulator(known)) as base_url:
            settings = settings_of(base_url=base_url, **changed)
            client = Client(
                "nppes",
                plugin.upstream(settings, None),
                limiters=Limiters(random=Random(0)),
                emit=lambda _: None,
                clock=lambda: NOON,
                random=Random(0),
                throttle_patience_seconds=0.5,
            )
            where = Partition("nppes", "default", "providers", Slice("Internal", INTERNAL))
            request = Request("full", None, NOON)
            async with client:
                yield (
                    known,
                    Context(
                        client.for_fetch(),
                        Account("default", None),
                        settings,
                        None,
                        where,
                        request,
                    ),
                )


# what is declared


def test_the_plugin_binds_its_feeds_and_answers_for_no_other() -> None:
    instance = instance_of(settings_of())
    other = attrs.evolve(instance, connector=attrs.evolve(CONNECTOR, name="others"))

    fetched, derived = PLUGINS.pipeline(instance, FEED), PLUGINS.pipeline(instance, DERIVED)

    assert [each.name for each in fetched.transforms["providers"]] == ["provider_of"]
    assert derived.derivation is not None
    assert derived.derivation.reads == ("providers",)
    assert PLUGINS.check(instance) is not None
    for hook in (plugin.partitions, plugin.begin, plugin.fetch):
        assert hook(other, FEED) is None
    assert plugin.transform(other, PROVIDERS) is None
    assert plugin.derive(other, LEADS) is None
    assert plugin.check(other) is None


def test_the_registry_is_asked_civilly_by_the_whole_process() -> None:
    settings = Settings(specialties=("Chiropractor",))
    (quota,) = plugin.upstream(settings, None).quotas

    assert quota.windows == (SlidingWindow(5, per_seconds=1.0),)
    assert (quota.concurrency, quota.per) == (3, "instance")
    assert settings.base_url == "https://npiregistry.cms.hhs.gov/api"


def test_a_pass_begins_with_as_many_pages_as_the_last_one_had() -> None:
    begin = plugin.begin(instance_of(settings_of(in_flight=2)), FEED)
    where = Partition("nppes", "default", "providers", Slice("Internal", INTERNAL))

    def pages(expected: int | None) -> int:
        answered = begin(where, Request("full", None, NOON, expected), NOON)
        assert answered.mode == "full"
        return len(answered.cursors)

    assert [pages(each) for each in (None, 10, 500, 9999)] == [2, 1, 3, 6]


# what is configured


def test_searches_places_and_leads_are_configured() -> None:
    settings = configured("""
        specialties = ["Dermatology"]
        places = ["TX", "New York, NY"]
        [[connectors.nppes.searches]]
        specialty = "Pediatrics"
        postal_code = "787*"
        enumeration_type = "NPI-2"
        priority = 3600
        [connectors.nppes.leads]
        states = ["TX"]
    """)

    assert [each.name for each in settings.wanted] == [
        "Pediatrics, 787*, NPI-2",
        "Dermatology, TX",
        "Dermatology, New York, NY",
    ]
    assert settings.leads.states == ("TX",)
    assert configured('specialties = ["Dermatology"]').leads is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no search"),
        ('places = ["TX"]', "no less is searched for"),
        ('specialties = ["Dermatology"]\nplaces = ["Texas"]', "place 'Texas'"),
        ('[[connectors.nppes.searches]]\nstate = "TX"', r"searches\[0\]: refused: wanted a spec"),
        ('[[connectors.nppes.searches]]\ncity = "A*"', r"searches\[0\]: refused: 'A\*'"),
        ('specialties = ["Dermatology"]\nper_page = 201', "per_page"),
    ],
)
def test_a_search_that_the_registry_would_refuse_stops_the_start(text: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        configured(text)


# what is asked


async def test_a_page_that_holds_nothing_is_asked_for_once_more() -> None:
    async with registry() as (known, ctx):
        known.arm("empty")
        page = await plugin.providers(ctx, Ask().cursor())

        assert len(page.records["providers"]) == 30
        assert known.asked == [{"version": "2.1", "limit": "200", **INTERNAL}] * 2
        known.asked.clear()
        page = await plugin.providers(ctx, Ask({"postal_code": "00*"}).cursor())
        assert (page.empty, page.opens, len(known.asked)) == (True, (), 2)


async def test_a_search_that_cannot_be_split_fails_by_name_and_asks_nothing() -> None:
    async with registry() as (known, ctx):
        with pytest.raises(Unintelligible, match="search Internal Medicine, postal_code 78701"):
            await plugin.providers(ctx, Ask({"postal_code": "78701"}, kind="too many").cursor())
        assert known.asked == []


async def test_the_check_asks_for_one_row_of_the_first_search() -> None:
    async with registry(specialties=("Internal Medicine", "Pediatrics")) as (known, ctx):
        check = plugin.check(instance_of(ctx.settings))
        assert check is not None

        said = await check(ctx)
        assert said == (
            "the registry answers; Internal Medicine finds providers, of 2 searches the first"
        )
        assert [query["limit"] for query in known.asked] == ["1"]
        known.arm("xml", times=9)
        with pytest.raises(Unavailable, match="as in maintenance"):
            await check(ctx)
