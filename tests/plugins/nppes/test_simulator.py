"""Laws of the simulated registry: it errs, clamps and finds as the real one is said to."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
import trio

from syncd_nppes.simulator import Registry, Simulator, serve
from syncd_nppes.simulator_providers import invented

DERMATOLOGY = {"version": "2.1", "taxonomy_description": "Dermatology"}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(invented(1500, seed=6, specialties=["Dermatology", "Pediatrics"]))


def asked(registry: Registry, **query: Any) -> Any:
    words = {name: str(value) for name, value in query.items()}
    return msgspec.json.decode(registry.answer(DERMATOLOGY | words).body)


def numbers(answer: Any) -> list[str]:
    return [str(row["number"]) for row in answer["results"]]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({"version": "2.0", "city": "AUSTIN"}, "17"),
        ({}, "17"),
        ({"version": "2.1"}, "04"),
        ({"version": "2.1", "number": "123"}, "06"),
        ({"version": "2.1", "last_name": "s*"}, "03"),
        ({"version": "2.1", "city": "AUSTIN", "enumeration_type": "NPI-3"}, "05"),
        ({"version": "2.1", "enumeration_type": "NPI-1"}, "09"),
        ({"version": "2.1", "state": "TX"}, "07"),
    ],
)
def test_what_is_refused_comes_with_status_200_and_no_results(
    registry: Registry, query: dict[str, str], number: str
) -> None:
    reply = registry.answer(query)
    answer = msgspec.json.decode(reply.body)

    assert (reply.status, answer["Errors"][0]["number"]) == (200, number)
    assert "results" not in answer


def test_pages_are_clamped_and_count_themselves(registry: Registry) -> None:
    assert asked(registry)["result_count"] == 10
    assert asked(registry, limit=500)["result_count"] == 200
    pages = [asked(registry, limit=200, skip=skip) for skip in range(0, 1201, 200)]
    assert [page["result_count"] for page in pages] == [200, 200, 200, 200, 16, 0, 0]
    everybody = [npi for page in pages for npi in numbers(page)]
    assert len(set(everybody)) == 816  # those with a secondary taxonomy among them


def test_no_more_than_1200_rows_are_handed_out() -> None:
    registry = Registry(invented(1500, seed=6, specialties=["Dermatology"]))

    counts = [
        asked(registry, limit=200, skip=skip)["result_count"] for skip in (0, 1000, 1001, 1200)
    ]
    assert counts == [200, 200, 0, 0]


def test_addresses_come_in_another_order_and_some_rows_as_years_ago(registry: Registry) -> None:
    first, second = asked(registry, limit=200), asked(registry, limit=200)

    orders = [
        [[address["address_purpose"] for address in row["addresses"]] for row in page["results"]]
        for page in (first, second)
    ]
    assert orders[0] != orders[1]
    assert ["LOCATION", "MAILING"] in orders[0]
    assert ["MAILING", "LOCATION"] in orders[0]
    old = [row for row in first["results"] if isinstance(row["number"], int)]
    assert 10 < len(old) < 50
    assert all(isinstance(row["last_updated_epoch"], int) for row in old)
    assert not any("sex" in row["basic"] for row in old)
    assert any("gender" in row["basic"] for row in old)


def test_criteria_and_wildcards_narrow_a_search(registry: Registry) -> None:
    def found(**query: str) -> list[str]:
        pages = (asked(registry, limit=200, skip=skip, **query) for skip in range(0, 1001, 200))
        return [npi for page in pages for npi in numbers(page)]

    texans = found(state="TX")
    in_zip = [npi for prefix in ("77*", "75*", "78*", "79*") for npi in found(postal_code=prefix)]
    assert sorted(texans) == sorted(in_zip)
    assert set(found(city="AUS*")) == set(found(city="austin")) == set(found(postal_code="787*"))
    both = [found(enumeration_type=kind, state="TX") for kind in ("NPI-1", "NPI-2")]
    assert sorted([*both[0], *both[1]]) == sorted(texans)
    (row,) = asked(registry, number=texans[0])["results"]
    name = row["basic"].get("last_name") or row["basic"]["organization_name"]
    field = "last_name" if "last_name" in row["basic"] else "organization_name"
    assert texans[0] in found(**{field: f"{name[:2].lower()}*"})
    assert texans[0] in found(**{field: name})
    assert texans[0] not in found(**{field: name[:2]})
    place = row["addresses"][0]["postal_code"]
    assert texans[0] in found(postal_code=place[:5])


def test_one_request_in_so_many_finds_nothing_the_first_time() -> None:
    registry = Registry(invented(50, seed=6, specialties=["Dermatology"]), empty_every=2)

    first, second, again = (asked(registry, limit=limit) for limit in (20, 30, 30))
    assert [each["result_count"] for each in (first, second, again)] == [20, 0, 30]


async def test_it_is_served_over_http_and_says_what_it_is_told_to() -> None:
    registry = Registry(invented(5, seed=1, specialties=["Dermatology"]))
    registry.arm("html")
    with trio.fail_after(60.0):
        async with serve(Simulator(registry)) as base_url, httpx.AsyncClient() as client:
            maintained = await client.get(f"{base_url}/", params=DERMATOLOGY)
            answered = await client.get(f"{base_url}/", params=DERMATOLOGY)
            elsewhere = await client.get(f"{base_url}/elsewhere")

    assert (maintained.status_code, maintained.headers["content-type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    assert answered.json()["result_count"] == 5
    assert "date" in answered.headers
    assert elsewhere.status_code == 404
