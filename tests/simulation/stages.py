"""The stages of the scenarios: an upstream, its limit, and the configuration to keep up with it.

Each is built at full size, for the report, or small, for the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import tiktok_upstream as tiktok
from daemons import LATENCY_SECONDS as TRANSACTION_SECONDS
from judge import Allowed, Judge
from stand_ins import cars, front, nhanh, nppes, unknown
from transport import Weather

from syncd_cars import plugin as cars_plugin
from syncd_front import plugin as front_plugin
from syncd_nhanh import plugin as nhanh_plugin
from syncd_nppes import plugin as nppes_plugin
from syncd_tiktok import plugin as tiktok_plugin

LATENCY_SECONDS = 0.2  # of a call, there and back
ORDINARY = Weather(latency_seconds=LATENCY_SECONDS, jitter=0.1)
WITHIN_SECONDS = 6 * 3600.0  # of virtual time, for one scenario


@attrs.frozen
class Stage:
    """An upstream, and the configuration that is to keep up with it."""

    plugins: Mapping[str, object]
    host: str
    upstream: Any
    judge: Judge
    configuration: str
    rows: tuple[str, int]  # a query that counts, and what it must answer
    ideal_seconds: float = 0.0  # but for locks
    reach: float = 1.0  # at most so many times the ideal
    limits: Sequence[tuple[float, float]] = ()  # from when on how many calls a second: to follow
    seconds: float = WITHIN_SECONDS  # of virtual time, at most
    weather: Weather = ORDINARY
    refused_max: float = 0.01
    transaction_seconds: float = TRANSACTION_SECONDS
    daemons: int = 1  # that share the quotas, where there are several
    hosts: Sequence[str] = ()  # of the same upstream, beside its own
    beside: str = ""  # an account that is not waited for: the others are judged
    others: Mapping[str, Any] = attrs.field(factory=dict)  # upstreams, by host
    queued: int = 0  # effects, before the daemon begins: they are delivered, and there is no round


def unknown_limit(small: bool) -> Stage:
    """Nothing is announced, and the limit moves twice."""
    spell = 120.0 if small else 1200.0
    rates = (5.0, 2.0, 10.0) if small else (10.0, 4.0, 20.0)
    limits = tuple((place * spell, rate) for place, rate in enumerate(rates))
    pages = round(1.2 * spell * sum(rate for _, rate in limits))
    upstream = unknown.Unknown(pages, limits=limits)
    return Stage(
        plugins={"unknown": unknown},
        host=unknown.HOST,
        upstream=upstream,
        judge=upstream.judge,
        configuration=f"[connectors.unknown]\n{_job('unknown', 'things', 1)}",
        rows=("SELECT count(*) FROM unknown.things", pages),
        limits=limits,
        seconds=3 * spell,
        refused_max=0.02,
        transaction_seconds=0.5,  # so that several pages share one: an hour is thousands of pages
    )


# --- TikTok ---------------------------------------------------------------------------------------

USERS = "user_daily"
VIDEOS = "video_daily"  # of the two streams of a page: what is played are the calls

QUICK = Weather(latency_seconds=0.02, jitter=0.1)


def users(small: bool) -> Stage:
    """Each store's user in one call of 3 s; nobody limits the calls."""
    stores, at_once = (40, 10) if small else (300, 30)
    upstream = tiktok.Stores(_stores(stores, 1), user_seconds=3.0 - QUICK.latency_seconds)
    return Stage(
        plugins={"tiktok": tiktok_plugin},
        host=tiktok.HOST,
        upstream=upstream,
        judge=upstream.judges["user_info"],
        configuration=_tiktok(stores, USERS, at_once, calls=0),
        ideal_seconds=3.0 * stores / at_once,
        reach=31 / 30,
        rows=("SELECT count(*) FROM tiktok.user_daily", stores),
        weather=QUICK,
    )


def videos(small: bool) -> Stage:
    """Each store's 140 videos in seven calls of 1 s, one after the other."""
    stores, at_once = (20, 5) if small else (300, 20)
    upstream = tiktok.Stores(_stores(stores, 140), video_seconds=1.0 - QUICK.latency_seconds)
    return Stage(
        plugins={"tiktok": tiktok_plugin},
        host=tiktok.HOST,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=_tiktok(stores, VIDEOS, at_once, calls=0),
        ideal_seconds=7.0 * stores / at_once,
        reach=108 / 105,
        rows=("SELECT count(*) FROM tiktok.video_daily", stores * 140),
        weather=QUICK,
    )


def many_videos(small: bool) -> Stage:
    """500 videos a store, 20 a page: 600 calls a minute, in a sliding window."""
    stores, calls = (20, 100) if small else (300, 600)
    upstream = tiktok.Stores(
        _stores(stores, 500), allowed=Allowed("sliding", calls, 60.0), video_seconds=0.1
    )
    return Stage(
        plugins={"tiktok": tiktok_plugin},
        host=tiktok.HOST,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=_tiktok(stores, VIDEOS, 10, calls=calls),
        ideal_seconds=stores * 25 / calls * 60,
        reach=1.05,
        rows=("SELECT count(*) FROM tiktok.video_daily", stores * 500),
    )


def shared_videos(small: bool) -> Stage:
    """The same for eight daemons, which all know the one limit only."""
    whole = many_videos(small=False)
    stores = 20 if small else 300
    upstream = tiktok.Stores(
        _stores(stores, 500), allowed=Allowed("sliding", 600, 60.0), video_seconds=0.1
    )
    return attrs.evolve(
        whole,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=_tiktok(stores, VIDEOS, 4, calls=600),
        ideal_seconds=stores * 25 / 600 * 60,
        reach=1 / 0.9,
        refused_max=1e-9,
        rows=("SELECT count(*) FROM tiktok.video_daily", stores * 500),
        daemons=8,
    )


def one_huge(small: bool) -> Stage:
    """One store of 10,000 pages beside many of ten: they wait for the limit, not for that one.

    Ideal: it takes its turn among as many as run at once, and no more.
    """
    stores, at_once, calls = (40, 8, 300) if small else (299, 30, 600)
    huge = {"huge": 200_000 // (20 if small else 1)}
    upstream = tiktok.Stores(
        huge | _stores(stores, 200), allowed=Allowed("sliding", calls, 60.0), video_seconds=0.1
    )
    configuration = _tiktok(stores, VIDEOS, at_once, calls=calls)
    account = tiktok.account("huge") + "\n"
    return Stage(
        plugins={"tiktok": tiktok_plugin},
        host=tiktok.HOST,
        upstream=upstream,
        judge=upstream.judges["video_list"],
        configuration=configuration.replace("[jobs.all]", f"{account}[jobs.all]"),
        ideal_seconds=stores * 10 / calls * 60 * at_once / (at_once - 1),
        reach=1.05,
        rows=("SELECT count(*) FROM tiktok.video_daily WHERE account_id <> 'huge'", stores * 200),
        beside="huge",
    )


def _stores(stores: int, videos: int) -> dict[str, int]:
    return {f"store-{number:03d}": videos for number in range(stores)}


def _tiktok(stores: int, stream: str, at_once: int, *, calls: int) -> str:
    tables = tiktok.configuration(list(_stores(stores, 0)), calls=calls, at_once=at_once)
    return tables + "\n" + _job("tiktok", stream, at_once)


def _job(connector: str, stream: str, at_once: int) -> str:
    return (
        f'[jobs.all]\nconnector = "{connector}"\nstreams = ["{stream}"]\nmode = "full"\n'
        f'every = "30d"\nconcurrency = {at_once}\n'
    )


# --- Nhanh ----------------------------------------------------------------------------------------


def one_chain(small: bool) -> Stage:
    """42,900 customers, a hundred a page, each page named by the one before."""
    return _nhanh(3_000 if small else 42_900, windows=1, reach=1.05)


def one_store(_: bool) -> Stage:
    """7,500 customers, which are 75 calls one after the other."""
    return _nhanh(7_500, windows=1, reach=1.05)


def four_chains(small: bool) -> Stage:
    """The same through four disjoint filters, which the limit of 150 in 30 s slows down."""
    return _nhanh(20_000 if small else 42_900, windows=4, reach=1.1)


def _nhanh(customers: int, *, windows: int, reach: float) -> Stage:
    upstream = nhanh.Upstream({110668: customers}, allowed=Allowed("sliding", 150, 30.0))
    (judge,) = upstream.judges.values()
    calls = windows * math.ceil(customers / windows / nhanh.PAGE_MAX)
    latency = LATENCY_SECONDS
    last = (calls - 1) % 150 + 1  # calls of the last window, in flight side by side
    ideal = (
        calls * latency if windows == 1 else (calls - 1) // 150 * 30.0 + last * latency / windows
    )
    configuration = (
        f'[connectors.nhanh]\nbase_url = "https://{nhanh.HOST}"\napp_id = 73905\n'
        f'windows = {nhanh.boundaries(customers, windows)}\nfull_every = "0s"\n'
        "[[connectors.nhanh.accounts]]\n"
        'name = "shop"\nbusiness_id = 110668\ntoken = "token-110668"\n'
    )
    return Stage(
        plugins={"nhanh": nhanh_plugin},
        host=nhanh.HOST,
        upstream=upstream,
        judge=judge,
        configuration=configuration
        + _job("nhanh", "customers", windows)
        + f"partitions_per_account = {windows}\n",
        rows=("SELECT count(*) FROM nhanh.customers", customers),
        ideal_seconds=ideal,
        reach=reach,
    )


# --- Cars -----------------------------------------------------------------------------------------

PER_PAGE = 1000
# Told and not told for how long. The network's jitter is 10 % of 0.2 s, up or down: below a tenth
# of the spacing of 1 s.
SPELLS = (
    cars.Spell(at=20.0, seconds=5.0, told=True),
    cars.Spell(at=60.0, seconds=5.0, told=False),
    cars.Spell(at=100.0, seconds=15.0, told=True),
)


def feed_of_cars(small: bool) -> Stage:
    """One call a second, a token bucket without a burst."""
    return _cars(small, ())


def cars_refused(small: bool) -> Stage:
    """The same; for some spells everyone is refused, and told for how long, or not."""
    return _cars(small, SPELLS[:2] if small else SPELLS)


def _cars(small: bool, spells: Sequence[cars.Spell]) -> Stage:
    pages = 150 if small else 190
    number = pages * (20 if small else PER_PAGE)
    upstream = cars.Cars(number, allowed=Allowed("bucket", 1, 1.0), spells=spells, seconds=0.3)
    configuration = (
        f'[connectors.cars]\nbase_url = "https://{cars.HOST}/api"\napi_key = "{cars.KEY}"\n'
        f"priority_brands = []\nper_page = {number // pages}\n"
    )
    return Stage(
        plugins={"cars": cars_plugin},
        host=cars.HOST,
        upstream=upstream,
        judge=upstream.judge,
        configuration=configuration + _job("cars", "cars", 1),
        ideal_seconds=float(pages),
        reach=1.1 if spells else 1.05,
        refused_max=1.0 if spells else 0.01,
        rows=("SELECT count(*) FROM cars.cars", number),
    )


# --- NPPES ----------------------------------------------------------------------------------------

# Of a page's answer, by its `skip`. Three at a time these six take 3 s, if none waits for another.
PAGE_SECONDS = {0: 1.0, 200: 1.5, 400: 2.0, 600: 2.0, 800: 1.5, 1000: 1.0}


def one_search(small: bool) -> Stage:
    """A search nobody walked before, in six calls of 1 to 2 s; no answer tells how many there are.

    1,199 providers: with one more the last page were full, and the search one of too many.
    """
    seconds = {skip: each - QUICK.latency_seconds for skip, each in PAGE_SECONDS.items()}
    upstream = nppes.Nppes(1199, allowed=Allowed("sliding", 5, 1.0), seconds=seconds)
    configuration = (
        f'[connectors.nppes]\nbase_url = "https://{nppes.HOST}/api"\n'
        f'specialties = ["{nppes.SPECIALTY}"]\nin_flight = 3\n'
    )
    return Stage(
        plugins={"nppes": nppes_plugin},
        host=nppes.HOST,
        upstream=upstream,
        judge=upstream.judge,
        configuration=configuration + _job("nppes", "providers", 1),
        ideal_seconds=sum(PAGE_SECONDS.values()) / 3,
        reach=1.1,
        rows=("SELECT count(*) FROM nppes.providers", 1199),
        weather=QUICK,
    )


# --- Front ----------------------------------------------------------------------------------------

CALM = Weather(latency_seconds=0.15, jitter=0.0)
IN_FLIGHT = 150
SCANNED = "SELECT count(*) FROM front.scanned_conversations"


def week_of_mail(small: bool) -> Stage:
    """A week of mail whose shipments a model extracts; nobody limits the calls, of 150 ms each."""
    conversations = 160 if small else 700
    upstream = front.Upstream(conversations, allowed=None)
    pages = math.ceil(conversations / 100)
    return Stage(
        plugins={"front": front_plugin},
        host=front.HOST,
        hosts=(front.MODEL_HOST,),
        upstream=upstream,
        judge=upstream.judge,
        configuration=_front(calls=0, asks=True),
        # The messages of a conversation, then its extraction.
        ideal_seconds=0.15 * (pages + 2 * math.ceil(conversations / IN_FLIGHT)),
        reach=1.15,
        rows=(SCANNED, conversations),
        weather=CALM,
    )


def limited_mail(small: bool) -> Stage:
    """The same by patterns, under the limit of a plan: 100 calls a minute."""
    conversations = 160 if small else 700
    upstream = front.Upstream(conversations, allowed=Allowed("sliding", 100, 60.0))
    calls = conversations + math.ceil(conversations / 100)
    return Stage(
        plugins={"front": front_plugin},
        host=front.HOST,
        upstream=upstream,
        judge=upstream.judge,
        configuration=_front(calls=100, asks=False),
        # What the window takes at once is free; the rest waits for it to turn.
        ideal_seconds=calls / 100 * 60.0,
        reach=1.05,
        rows=(SCANNED, conversations),
        weather=CALM,
    )


def _front(*, calls: int, asks: bool) -> str:
    tables = front.configuration(calls=calls, asks=asks)
    return f"{tables}{_job('front', 'conversations', IN_FLIGHT)}".replace(
        'streams = ["conversations"]', 'streams = ["scanned_conversations", "shipments"]'
    )
