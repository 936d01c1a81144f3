"""A stand-in for Nhanh's open API v3 (customers): a connector and its upstream, invented records.

Facts (Nhanh.vn API documentation, "Customer list" and "Rate limit"): POST, 100 customers a page at
most, an opaque `next` whose shape differs from page to page and which ends by being absent; a page
may hold fewer than asked, or none, and go on. 150 calls in 30 s for each app, business and URL.
Over it the answer is 200 with `code` 0, `ERR_429` and `unlockedAt`; a call made while locked
lengthens the lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from typing import Any

import attrs
import msgspec
from inline import BEGAN_AT, now
from judge import Allowed, Judge
from transport import Answer, Asked

import syncd
from syncd import (
    Connector,
    Context,
    Cursor,
    Feed,
    FixedWindow,
    Instance,
    Page,
    Pass,
    Quota,
    Record,
    Secret,
    Slice,
    Stream,
    Throttled,
    Unavailable,
    Upstream,
    hookimpl,
)

HOST = "pos.open.nhanh.test"
PAGE_MAX = 100
PATH = "/customer/list"
LOCK_SECONDS = 10  # at first; each call while locked adds as many


@attrs.frozen
class Settings:
    app_id: int = 73905
    base_url: str = f"https://{HOST}/v3.0"
    calls: int = 150
    window_seconds: float = 30.0
    in_flight: int = 4
    page_size: int = PAGE_MAX
    windows: int = 1  # of `updatedAt`: disjoint filters, walked side by side


@attrs.frozen
class AccountSettings:
    business_id: int
    token: Secret


@attrs.define
class Customer:
    id: int
    name: str
    points: int


class _Paginator(msgspec.Struct):
    next: Any = None


class _List(msgspec.Struct):
    data: list[msgspec.Raw]
    paginator: _Paginator


class _Refusal(msgspec.Struct):
    code: int = 1
    errorCode: str = ""  # noqa: N815 - as it comes
    data: Any = None


CUSTOMERS = Stream("customers", Customer, key=("id",), per_account=True)
FEED = Feed("customers", streams=(CUSTOMERS,), quota=PATH)


def judge(response: syncd.Response) -> Throttled | Unavailable | None:
    """Find the errors that stand in bodies."""
    try:
        said = msgspec.json.decode(response.content, type=_Refusal)
    except msgspec.DecodeError:
        return None
    if said.code == 1:
        return None
    if said.errorCode in {"ERR_429", "429", "ERR_EXCEEDED_RATE_LIMIT"}:
        unlocked_at = datetime.fromtimestamp(said.data["unlockedAt"], UTC)
        # A second more: the lock is told in whole seconds.
        seconds = response.seconds_until(unlocked_at) + 1.0
        return Throttled(PATH, "locked", "wait", retry_after_seconds=seconds)
    return Unavailable(PATH, f"said {said.errorCode}", "ask again")


def upstream(settings: Settings, account: AccountSettings) -> Upstream:
    window = FixedWindow(settings.calls, settings.window_seconds)
    return Upstream(
        settings.base_url,
        quotas=(Quota(PATH, window, settings.in_flight),),
        headers={"authorization": account.token},
        judge=judge,
    )


CONNECTOR = Connector(
    "nhanh",
    "1.0.0",
    settings=Settings,
    feeds=(FEED,),
    upstream=upstream,
    account_settings=AccountSettings,
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return [CONNECTOR]


@hookimpl
def partitions(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None

    async def slices(ctx: Context[Settings, None]) -> Sequence[Slice]:
        number = ctx.settings.windows
        if number == 1:
            return [Slice()]
        return [Slice(f"window {n}", {"window": n}, covers="part") for n in range(number)]

    return slices


@hookimpl
def begin(instance: Instance[Any], feed: Feed) -> Any:
    if instance.connector is not CONNECTOR:
        return None
    return lambda _, request, __: Pass(request.mode, (Cursor({}),))


@hookimpl
def fetch(instance: Instance[Any], feed: Feed) -> Any:
    return customers if instance.connector is CONNECTOR else None


async def customers(ctx: Context[Settings, None], cursor: Cursor) -> Page:
    assert isinstance(cursor.value, dict)
    response = await ctx.http.post(
        PATH,
        json={
            "filters": dict(ctx.partition.slice.settings),
            "paginator": {"size": ctx.settings.page_size, **cursor.value},
        },
        params={"appId": ctx.settings.app_id, "businessId": ctx.account.settings.business_id},
        quota=PATH,
    )
    answered = syncd.decode(response, _List, where=f"POST {PATH}")
    following = answered.paginator.next
    opens = (Cursor({"next": following}),) if following else ()
    records = [Record(raw) for raw in answered.data]
    return Page({"customers": records}, opens, date=response.date)


# --- The upstream ---------------------------------------------------------------------------------


class Nhanh:
    """The upstream: businesses with customers, each with a limit of its own for the one URL.

    `windows`: how many disjoint filters by `updatedAt` are asked for; each gets an equal share.
    """

    def __init__(
        self,
        businesses: Mapping[int, int],
        *,
        allowed: Allowed,
        seconds: float = 0.0,
        windows: int = 1,
    ) -> None:
        self.points = {business: [1] * number for business, number in businesses.items()}
        keys = map(self._key, businesses)
        self.judges: Mapping[str, Judge] = {key: Judge(key, allowed) for key in keys}
        self._seconds = seconds
        self._windows = windows

    @staticmethod
    def _key(business: int) -> str:
        return f"{PATH} of {business}"

    def judge_of(self, asked: Asked) -> Judge:
        return self.judges[self._key(int(asked.query["businessId"]))]

    def answer(self, asked: Asked) -> Answer:
        business = int(asked.query["businessId"])
        body = msgspec.json.decode(asked.body)
        judge = self.judge_of(asked)
        if asked.headers.get("authorization") != f"token-{business}":
            return _said({"code": 0, "errorCode": "ERR_INVALID_ACCESS_TOKEN", "messages": [""]})
        was_locked = asked.at < judge.locked_until
        if not judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return self._locked(judge, asked.at, was_locked=was_locked)
        return _said(self._page(self.points[business], body), seconds=self._seconds)

    def _locked(self, judge: Judge, at: float, *, was_locked: bool) -> Answer:
        until = judge.locked_until + LOCK_SECONDS if was_locked else at + LOCK_SECONDS
        told = judge.lock(at, until)
        data = {
            "lockedSeconds": int(until - at),
            "unlockedAt": int(BEGAN_AT.timestamp() + until) + 1,
        }
        answer = _said({"code": 0, "errorCode": "ERR_429", "message": "exceeded", "data": data})
        return attrs.evolve(answer, told=told)

    def _page(self, points: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer with a page; `next` is an object on odd ones, an array on even ones."""
        window = body["filters"].get("window")
        first, last = 0, len(points)
        if window is not None:
            share = -(-len(points) // self._windows)
            first, last = window * share, min((window + 1) * share, len(points))
        following = body["paginator"].get("next")
        if following:
            first = following["id"] if isinstance(following, dict) else following[0]
        end = min(first + min(int(body["paginator"].get("size", PAGE_MAX)), PAGE_MAX), last)
        found = [
            {"id": n + 1, "name": f"customer {n + 1}", "points": points[n]}
            for n in range(first, end)
        ]
        paginator: dict[str, Any] = {"size": PAGE_MAX}
        if end < last:
            paginator["next"] = {"id": end} if (end // PAGE_MAX) % 2 else [end]
        return {"code": 1, "data": found, "paginator": paginator}

    def change(self, random: Random) -> None:
        """Let points move, and a new customer come."""
        for points in self.points.values():
            for place in random.sample(range(len(points)), k=len(points) // 3):
                points[place] += 1
        random.choice(list(self.points.values())).append(0)

    def truth(self) -> set[tuple[Any, ...]]:
        return {
            (f"business-{business}", n + 1, f"customer {n + 1}", each)
            for business, points in self.points.items()
            for n, each in enumerate(points)
        }


TRUTH = "SELECT account_id, id, name, points FROM nhanh.customers"


def _said(value: Mapping[str, Any], *, seconds: float = 0.0) -> Answer:
    date = format_datetime(now(), usegmt=True)
    headers = {"content-type": "application/json", "date": date}
    return Answer(200, msgspec.json.encode(value), headers, seconds)
