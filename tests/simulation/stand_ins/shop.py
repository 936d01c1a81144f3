"""A connector of orders whose rows have effects, another that delivers them, and both upstreams.

Of each revision of an order a parcel is sent, in bulks, and a step of its line is told, in their
order. The provider honours keys: what it has accepted once it accepts no second time. Until it is
well it does much that a provider may do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import attrs
import msgspec
from judge import Allowed, Judge
from stand_ins.post import HOST as POST_HOST
from stand_ins.post import Post
from transport import Answer, Asked

import syncd
from syncd import (
    Connector,
    Context,
    Cursor,
    Dead,
    Deliver,
    Delivered,
    Effect,
    EffectKind,
    Feed,
    Instance,
    Outcome,
    Page,
    Pass,
    Queued,
    Quota,
    Record,
    Retry,
    SlidingWindow,
    Stream,
    Transform,
    Upstream,
    WithEffects,
    hookimpl,
)

HOST = "shop.test"
PAGE = 4  # orders
LINES = 3
TRUTH = "SELECT id, revision FROM shop.orders"

PARCEL = EffectKind("post.parcel", "parcels", bulk_max=5, concurrency=2, deadline_seconds=10.0)
STEP = EffectKind(
    "post.step", "parcels", concurrency=2, deadline_seconds=10.0, ordered=True, skip_dead=True
)

WITHOUT = f"""
    SELECT o.id, o.revision, k.kind
    FROM shop.orders o CROSS JOIN (VALUES ('{PARCEL.name}'), ('{STEP.name}')) AS k (kind)
    WHERE NOT EXISTS (SELECT FROM syncd.effect e
                      WHERE e.kind = k.kind AND e.key = o.id || '-' || o.revision)
"""


@attrs.frozen
class Settings:
    """`calls` in `per_seconds`, of one daemon."""

    base_url: str
    calls: int
    per_seconds: float


@attrs.define
class Order:
    id: int
    revision: int


class _Envelope(msgspec.Struct):
    orders: list[msgspec.Raw]
    last: bool


ORDERS = Stream("orders", Order, key=("id",), version="revision")
FEED = Feed("orders", streams=(ORDERS,), quota="orders", paging="numbered")


def _upstream(quota: str) -> Any:
    def upstream(settings: Settings, _: None) -> Upstream:
        window = SlidingWindow(settings.calls, settings.per_seconds)
        return Upstream(settings.base_url, quotas=(Quota(quota, window),), timeout_seconds=5.0)

    return upstream


SHOP = Connector("shop", "1.0.0", Settings, feeds=(FEED,), upstream=_upstream("orders"))
POST = Connector(
    "post", "1.0.0", Settings, feeds=(), upstream=_upstream("parcels"), effects=(PARCEL, STEP)
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [SHOP, POST]


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not SHOP:
        return None
    return lambda _, request, __: Pass(request.mode, (Cursor({}, number=1),))


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Any:
    return orders if instance.connector is SHOP else None


async def orders(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    response = await ctx.http.get("/orders", params={"page": cursor.number or 1})
    envelope = syncd.decode(response, _Envelope, where="GET /orders")
    return Page({"orders": [Record(raw) for raw in envelope.orders]}, end=envelope.last)


@hookimpl
def transform(instance: Instance[Any], stream: Stream) -> Transform | None:
    if instance.connector is not SHOP:
        return None
    return Transform("sent", 1, sent, effects=(PARCEL.name, STEP.name))


def sent(order: Order) -> WithEffects:
    key = f"{order.id}-{order.revision}"
    line = f"line {order.id % LINES}"
    return WithEffects(
        order,
        [
            Effect(PARCEL.name, key, {"order": order.id}),
            Effect(STEP.name, key, {"revision": order.revision}, line),
        ],
    )


@hookimpl
def deliver(instance: Instance[Any], kind: EffectKind) -> Deliver | None:
    if instance.connector is not POST:
        return None

    async def delivered(ctx: Context[Any, Any], effects: Sequence[Queued]) -> Mapping[int, Outcome]:
        body = [{"key": each.key, "payload": each.payload} for each in effects]
        response = await ctx.http.post(f"/{kind.name}", json=body)
        said = syncd.decode(response, dict[str, str], where="POST")
        return {each.id: _outcome(said[each.key]) for each in effects if each.key in said}

    return delivered


def _outcome(word: str) -> Outcome:
    match word:
        case "taken":
            return Delivered()
        case "refused":
            return Dead(word)
        case _:
            return Retry(word, 1.0)


# --- The upstreams --------------------------------------------------------------------------------


class Shop:
    """Orders, and the post that is told of them."""

    def __init__(self, number: int, *, allowed: Allowed, post: Post) -> None:
        self.revisions = [1] * number
        self.post = post
        self.judge = Judge("orders", allowed)
        self.judges: Mapping[str, Judge] = {"orders": self.judge, "parcels": post.judge}

    def judge_of(self, asked: Asked) -> Judge:
        return self.post.judge if asked.host == POST_HOST else self.judge

    def answer(self, asked: Asked) -> Answer:
        if asked.host == POST_HOST:
            return self.post.answer(asked)
        if not self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return Answer(429, b"slow down", {"content-type": "text/plain"})
        first = (int(asked.query["page"]) - 1) * PAGE
        cut = list(enumerate(self.revisions, start=1))[first : first + PAGE]
        found = [{"id": number, "revision": revision} for number, revision in cut]
        last = first + PAGE >= len(self.revisions)
        body = msgspec.json.encode({"orders": found, "last": last})
        return Answer(200, body, {"content-type": "application/json"})

    def change(self, random: Random) -> None:
        """Let orders change, one more come, and the post be well from now on."""
        for place in random.sample(range(len(self.revisions)), k=len(self.revisions) // 3):
            self.revisions[place] += 1
        self.revisions.append(1)
        self.post.chance = 0.0

    def truth(self) -> set[tuple[Any, ...]]:
        return set(enumerate(self.revisions, start=1))


def configuration(calls: int, per_seconds: float) -> str:
    """Write both connectors' tables; `calls` of each quota in a window."""
    return "\n".join(
        f'[connectors.{name}]\nbase_url = "https://{host}"\ncalls = {calls}\n'
        f"per_seconds = {per_seconds}"
        for name, host in (("shop", HOST), ("post", POST_HOST))
    )
