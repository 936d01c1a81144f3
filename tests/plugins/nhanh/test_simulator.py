"""Laws of the stand-in for Nhanh's open API: what public sources tell of that."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from typing import Any

import msgspec
import pytest

from syncd_nhanh.simulator_answers import (
    APP_ID,
    CHECK,
    CUSTOMERS,
    OLD_TOKEN_SECONDS,
    Asked,
    Fault,
    Nhanh,
    Said,
)
from syncd_nhanh.simulator_customers import Customers, with_holes
from syncd_nhanh.simulator_limit import Limit

STORE = 110_668
AT = 1_795_000_000.0


def upstream(customers: Customers | None = None, **options: Any) -> Nhanh:
    options = {"gate": Limit(None)} | options
    return Nhanh({STORE: customers or Customers(250)}, at=AT, **options)


def ask(
    there: Nhanh,
    body: Any = None,
    *,
    path: str = CUSTOMERS,
    token: str = f"token-{STORE}",
    at: float = AT,
    **query: Any,
) -> Said:
    named = {"appId": APP_ID, "businessId": STORE} | query
    said = {"filters": {}, "paginator": {"size": 100}} if body is None else body
    return there.answer(
        Asked(
            method="POST",
            path=path,
            query={name: str(value) for name, value in named.items()},
            authorization=token,
            body=msgspec.json.encode(said),
            at=at,
        )
    )


def told(said: Said) -> Any:
    return msgspec.json.decode(said.body)


def walk(there: Nhanh, size: int = 100, **filters: int) -> list[Any]:
    """Return the pages of a feed."""
    pages: list[Any] = []
    paginator: dict[str, Any] = {"size": size}
    while True:
        pages.append(told(ask(there, {"filters": filters, "paginator": paginator})))
        following = pages[-1]["paginator"].get("next")
        if following is None:
            return pages
        paginator = {"size": size, "next": following}


def test_a_larger_size_is_silently_cut_to_a_hundred() -> None:
    pages = walk(upstream(), size=1000)

    assert [len(page["data"]) for page in pages] == [100, 100, 50]
    ids = [each["id"] for page in pages for each in page["data"]]
    assert ids == sorted(set(ids), reverse=True)


def test_next_is_an_object_on_odd_pages_and_an_array_on_even_ones_and_ends_in_two_ways() -> None:
    there = upstream(Customers(450))
    first, second = walk(there), walk(there)

    kinds = [type(page["paginator"].get("next")) for page in first]
    assert kinds == [dict, list, dict, list, type(None)]
    assert {"next" in pages[-1]["paginator"] for pages in (first, second)} == {True, False}


def test_a_page_may_hold_sixty_or_none_and_go_on() -> None:
    pages = walk(upstream(Customers(450, gone=with_holes(450))))

    assert [len(page["data"]) for page in pages] == [100, 60, 100, 0, 50]


def test_a_cursor_means_nothing_with_other_filters() -> None:
    there = upstream()
    following = told(ask(there))["paginator"]["next"]

    other = ask(there, {"filters": {"updatedAtFrom": 1}, "paginator": {"next": following}})
    inner = ask(there, {"filters": {}, "paginator": {"next": following["id"]}})
    for said in (other, inner):
        assert told(said)["messages"] == {"paginator.next": "is invalid"}
    bodies: list[Any] = [
        {"filters": [], "paginator": {}},
        {"filters": {}, "paginator": {"size": "9"}},
    ]
    for body in bodies:
        assert told(ask(there, body))["errorCode"] == "ERR_INVALID_FORM_FIELDS"


def test_windows_of_updated_at_part_those_who_have_one() -> None:
    customers = Customers(450)
    there = upstream(customers)
    edge = customers.record(200)["updatedAt"]

    old = [each["id"] for page in walk(there, updatedAtTo=edge) for each in page["data"]]
    new = [each["id"] for page in walk(there, updatedAtFrom=edge + 1) for each in page["data"]]

    assert len(old) + len(new) == 450 - 450 // 50
    assert set(old).isdisjoint(new)


def test_more_than_150_calls_in_30_seconds_lock_the_url_and_calls_make_it_longer() -> None:
    limit = Limit()
    there = upstream(gate=limit)

    assert all(told(ask(there, at=AT + n / 10))["code"] == 1 for n in range(150))
    first = told(ask(there, at=AT + 15.5))
    second = told(ask(there, at=AT + 20))

    assert first["errorCode"] == "ERR_429"
    assert "message" in first
    assert "messages" not in first
    assert first["data"] == {"lockedSeconds": 10, "unlockedAt": AT + 26}
    assert second["data"] == {"lockedSeconds": 15, "unlockedAt": AT + 36}
    assert (limit.locks, limit.while_locked) == (1, 1)
    assert told(ask(there, at=AT + 35.5))["code"] == 1


def test_each_business_and_url_has_a_limit_of_its_own() -> None:
    there = Nhanh({1: Customers(10), 2: Customers(10)}, at=AT, gate=Limit(1))
    secret = {"secretKey": "an-invented-secret"}

    assert told(ask(there, token="token-1", businessId=1))["code"] == 1
    assert told(ask(there, token="token-2", businessId=2))["code"] == 1
    assert told(ask(there, secret, token="token-1", businessId=1, path=CHECK))["code"] == 1
    assert told(ask(there, token="token-1", businessId=1))["code"] == 0


def test_a_token_dies_a_quarter_of_an_hour_after_the_next_one_is_made() -> None:
    there = upstream()
    token = there.issue(STORE, AT + 100)
    dies_at = AT + 100 + OLD_TOKEN_SECONDS

    assert told(ask(there, at=dies_at - 1))["code"] == 1
    assert told(ask(there, at=dies_at))["errorCode"] == "ERR_INVALID_ACCESS_TOKEN"
    assert told(ask(there, token=token, at=dies_at))["code"] == 1
    checked = told(ask(there, {"secretKey": "an-invented-secret"}, path=CHECK, token=token))
    assert checked["data"]["expiredAt"] == AT + 100 + 365 * 86400


def test_messages_come_in_each_of_their_shapes() -> None:
    there = upstream()

    shapes = {type(told(ask(there, token="x"))["messages"]) for _ in range(3)}

    assert shapes == {str, list, dict}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"token": ""}, "ERR_INVALID_ACCESS_TOKEN"),
        ({"token": f"Bearer token-{STORE}"}, "ERR_INVALID_ACCESS_TOKEN"),
        ({"appId": 1}, "ERR_INVALID_APP_ID"),
        ({"businessId": 1}, "ERR_INVALID_BUSINESS_ID"),
        ({"businessId": "x"}, "ERR_INVALID_BUSINESS_ID"),
    ],
)
def test_who_may_not_look_is_told_why_in_the_body(wrong: dict[str, Any], code: str) -> None:
    said = ask(upstream(), **wrong)

    assert (said.status, told(said)["code"], told(said)["errorCode"]) == (200, 0, code)


def test_failures_have_statuses_of_their_own_where_that_is_wanted() -> None:
    there = upstream(gate=Limit(0), real_statuses=True)
    there.faults.append(Fault("down", STORE))

    assert ask(there, token="x").status == 401
    assert ask(there).status == 429
    there.gate = Limit(None)
    assert ask(there).status == 503


def test_web_pages_come_where_nobody_expects_them() -> None:
    there = upstream()
    there.faults.append(Fault("html", STORE, times=1))

    first, second = ask(there), ask(there)
    unknown = ask(there, path="/v3.0/customer/detail")

    assert (first.status, first.content_type.partition(";")[0]) == (200, "text/html")
    assert told(second)["code"] == 1
    assert (unknown.status, unknown.body[:9]) == (404, b"<!DOCTYPE")


def test_customers_may_move_between_two_pages() -> None:
    def move(_: int, customers: Customers) -> None:
        customers.change(0, AT)

    customers = Customers(250, seed=3)
    pages = walk(upstream(customers, after_page=move))

    last = pages[-1]["data"][-1]
    assert (last["points"], last["updatedAt"]) == ("3", AT)


def test_customers_are_the_same_for_the_same_seed_and_odd_in_all_the_known_ways() -> None:
    records = [Customers(700, seed=1).record(place) for place in range(700)]

    assert records == [Customers(700, seed=1).record(place) for place in range(700)]
    assert records != [Customers(700, seed=2).record(place) for place in range(700)]
    assert {"0000-00-00", "", None} <= {each["birthday"] for each in records}
    assert sum("updatedAt" not in each for each in records) == 14
    assert sum("\0" in each["name"] for each in records) == 2
    assert any("location" not in each for each in records)
    assert any(each["email"] == "" and each["business"] == [] for each in records)


def test_it_is_a_program_of_its_own_that_ends_with_whoever_started_it() -> None:
    command = [sys.executable, "-m", "syncd_nhanh.simulator", "--customers", "30", "--calls", "1"]
    with subprocess.Popen(
        [*command, "--exit-with-parent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        base_url = msgspec.json.decode(program.stdout.readline())["base_url"]
        request = urllib.request.Request(
            f"{base_url}{CUSTOMERS}?appId={APP_ID}&businessId=110001",
            data=b'{"filters":{},"paginator":{"size":100}}',
            headers={"authorization": "token-110001", "content-type": "application/json"},
        )
        said = []
        for _ in range(2):
            with urllib.request.urlopen(request, timeout=30) as answer:
                said.append(msgspec.json.decode(answer.read()))
                assert answer.headers["date"]
        program.stdin.close()
        assert program.wait(30) == 0

    assert [len(said[0]["data"]), said[1]["errorCode"]] == [30, "ERR_429"]
