"""The upstreams of a seed's world: stand-in, connector, and their part of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import attrs
import tiktok_upstream as tiktok
from judge import Allowed, Judge
from plan import Beside, Plan
from stand_ins import cars, front, mail, nhanh, post, shop, tracked, unknown
from stand_ins.provider import Provider
from transport import Asked
from world import Upstream

from syncd_cars import plugin as cars_plugin
from syncd_front import plugin as front_plugin
from syncd_nhanh import plugin as nhanh_plugin
from syncd_ship24 import plugin as ship24_plugin
from syncd_tiktok import plugin as tiktok_plugin

PAGE = 20  # records
WINDOW_SECONDS = 5.0
SPACING_SECONDS = 2.0  # of a bucket: jitter stays below a tenth of it

Tables = Callable[[Sequence[str]], str]


@attrs.frozen
class Scene:
    """An upstream, and how a world asks for it."""

    name: str  # of the plugin, its connector, its instance and its job
    plugin: object
    host: str
    upstream: Upstream
    accounts: Mapping[str, int]  # pages of each
    tables: Tables  # the configuration of these accounts
    stream: str
    truth: str  # the query of what the tables hold
    judge_of: Callable[[Asked], Judge]
    per_second: float  # calls that one daemon may make; 0: nobody knows
    also: tuple[str, ...] = ()  # streams of the same pages
    hosts: tuple[str, ...] = ()  # of the same upstream, beside its own
    announced: bool = True  # else the limit is found by being refused
    mode: str = "full"  # of its job's rounds
    provider: Provider | None = None  # of what follows from rows
    remains: Callable[[], set[tuple[Any, ...]]] = set  # what the tables need not hold, and may
    without: str = ""  # the query of rows from which nothing follows, and something should


def scenes_of(plan: Plan) -> list[Scene]:
    """Build the upstreams of a plan; the first one has the accounts."""
    if plan.scene == "chain":
        return [*_chain(plan)]
    scenes = [_tiktok(plan) if plan.scene == "tiktok" else _nhanh(plan)]
    if plan.beside:
        scenes.append(_BESIDE[plan.beside](plan))
    return scenes


def _tiktok(plan: Plan) -> Scene:
    pages = {f"store-{n:03d}": count for n, count in enumerate(plan.pages, start=1)}
    calls = plan.calls * plan.daemons
    # Cursors are whole seconds, so that each page but the first begins with a second once more.
    stores = {name: (PAGE - 1) * count - 6 for name, count in pages.items()}
    upstream = tiktok.Stores(
        stores, allowed=Allowed("sliding", calls, WINDOW_SECONDS), cursors_in="seconds"
    )
    upstream.twin()

    def tables(accounts: Sequence[str]) -> str:
        return tiktok.configuration(
            accounts, calls=plan.calls, at_once=8, per_seconds=WINDOW_SECONDS
        )

    return Scene(
        name="tiktok",
        plugin=tiktok_plugin,
        host=tiktok.HOST,
        upstream=upstream,
        accounts=pages,
        tables=tables,
        stream="videos",
        also=("video_daily",),
        truth=tiktok.TRUTH,
        judge_of=upstream.judge_of,
        per_second=plan.calls / WINDOW_SECONDS,
    )


def _nhanh(plan: Plan) -> Scene:
    ids = {f"business-{n}": n for n in range(1, len(plan.pages) + 1)}
    upstream = nhanh.Upstream(
        {n: PAGE * plan.pages[n - 1] - 7 for n in ids.values()},
        allowed=Allowed("sliding", plan.calls * plan.daemons, WINDOW_SECONDS),
    )

    def tables(accounts: Sequence[str]) -> str:
        lines = [
            f'[connectors.nhanh]\nbase_url = "https://{nhanh.HOST}"\napp_id = 73905',
            f"page_size = {PAGE}\n[connectors.nhanh.quotas.customers]",
            f'requests = {plan.calls}\nper = "{WINDOW_SECONDS:g}s"',
        ]
        for name in accounts:
            lines += [
                "[[connectors.nhanh.accounts]]",
                f'name = "{name}"\nbusiness_id = {ids[name]}\ntoken = "token-{ids[name]}"',
            ]
        return "\n".join(lines)

    return Scene(
        name="nhanh",
        plugin=nhanh_plugin,
        host=nhanh.HOST,
        upstream=upstream,
        accounts=dict(zip(ids, plan.pages, strict=True)),
        tables=tables,
        stream="customers",
        truth=nhanh.TRUTH,
        judge_of=upstream.judge_of,
        per_second=plan.calls / WINDOW_SECONDS,
    )


def _cars(plan: Plan) -> Scene:
    # Daemons that do not know of each other keep a pace each: as many may come at once.
    allowed = Allowed("bucket", 1, SPACING_SECONDS, burst=plan.daemons)
    upstream = cars.Cars(PAGE * plan.beside_pages - 7, allowed=allowed)
    per_second = 1 / SPACING_SECONDS / plan.daemons
    table = (
        f'[connectors.cars]\nbase_url = "https://{cars.HOST}/api"\napi_key = "{cars.KEY}"\n'
        f"priority_brands = []\nper_page = {PAGE}\nrequests_per_second = {per_second:.6f}\n"
    )
    return Scene(
        name="cars",
        plugin=cars_plugin,
        host=cars.HOST,
        upstream=upstream,
        accounts={"default": plan.beside_pages},
        tables=lambda _: table,
        stream="cars",
        truth=cars.TRUTH,
        judge_of=lambda _: upstream.judge,
        per_second=per_second,
    )


def _unknown(plan: Plan) -> Scene:
    upstream = unknown.Unknown(plan.beside_pages, limits=((0.0, 2.0),))
    return Scene(
        name="unknown",
        plugin=unknown,
        host=unknown.HOST,
        upstream=upstream,
        accounts={"default": plan.beside_pages},
        tables=lambda _: "[connectors.unknown]\nin_flight = 4",
        stream="things",
        truth=unknown.TRUTH,
        judge_of=lambda _: upstream.judge,
        per_second=0.0,
        announced=False,
    )


def _shop(plan: Plan) -> Scene:
    calls = 2 * plan.calls
    allowed = Allowed("sliding", calls * plan.daemons, WINDOW_SECONDS)
    provider = post.Post(
        allowed=allowed, chance=plan.post_chance, random=Random(f"post {plan.seed}")
    )
    upstream = shop.Shop(shop.PAGE * plan.beside_pages - 1, allowed=allowed, post=provider)
    return Scene(
        name="shop",
        plugin=shop,
        host=shop.HOST,
        hosts=(post.HOST,),
        upstream=upstream,
        accounts={"default": plan.beside_pages},
        tables=lambda _: shop.configuration(calls, WINDOW_SECONDS),
        stream="orders",
        truth=shop.TRUTH,
        judge_of=upstream.judge_of,
        per_second=calls / WINDOW_SECONDS,
        provider=provider,
        without=shop.WITHOUT,
    )


def _chain(plan: Plan) -> Sequence[Scene]:
    """From mail to trackers: what one connector finds the other registers, pulls and hears of."""
    calls = plan.calls * plan.daemons
    letters = mail.Mail(
        plan.mails,
        allowed=Allowed("sliding", calls, WINDOW_SECONDS),
        chance=plan.model_chance,
        course=plan.course,
        random=Random(f"mail {plan.seed}"),
    )
    parcels = tracked.Tracked(
        daemons=plan.daemons,
        chance=plan.post_chance,
        course=plan.course,
        random=Random(f"tracked {plan.seed}"),
    )
    quotas = front.limits(calls=plan.calls, per_seconds=WINDOW_SECONDS)

    def tables(companies: Sequence[str]) -> str:
        asked = front.configuration(calls=plan.calls, asks=True, tracks=True, companies=companies)
        return f"{asked}{quotas}"

    return [
        Scene(
            name="front",
            plugin=front_plugin,
            host=front.HOST,
            hosts=(front.MODEL_HOST,),
            upstream=letters,
            accounts=dict.fromkeys(letters.offices, 1),
            tables=tables,
            stream="scanned_conversations",
            also=("shipments",),
            truth=mail.TRUTH,
            remains=letters.remains,
            judge_of=letters.judge_of,
            per_second=plan.calls / WINDOW_SECONDS,
            mode="incremental" if plan.incremental else "full",
            provider=parcels,
            without=tracked.WITHOUT,
        ),
        Scene(
            name="ship24",
            plugin=ship24_plugin,
            host=tracked.HOST,
            upstream=parcels,
            accounts={"default": 1},
            tables=lambda _: tracked.configuration(),
            stream="trackers",
            also=("tracking_events",),
            truth=tracked.TRUTH,
            judge_of=parcels.judge_of,
            per_second=tracked.PULLS_PER_SECOND,
            mode="incremental" if plan.incremental else "full",
        ),
    ]


_BESIDE: Mapping[Beside, Callable[[Plan], Scene]] = {
    "cars": _cars,
    "unknown": _unknown,
    "shop": _shop,
}
