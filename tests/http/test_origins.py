"""Credentials leave for the origins a connector names, and for no other (P58)."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from syncd.errors import ConfigError, Unintelligible
from syncd.http.origin import Origins
from syncd.model import Secret, Upstream

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Scripted

    Open = Callable[[], Awaitable[Scripted]]

KEY = {"X-Api-Key": Secret("canary-key")}


def origins(base_url: str, *also: str) -> Origins:
    return Origins("cars", Upstream(base_url, quotas=(), credential_origins=also), secrets=())


def origin(upstream: Scripted) -> str:
    return upstream.url.removesuffix("/v1")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_origin_is_followed(
    upstream: Scripted, bench: Bench, status: int
) -> None:
    upstream.plays(upstream.says(status, Location="/v2/cars?page=1"), upstream.says(body=b"[1]"))
    client = await bench.client(upstream.url, headers=KEY)
    http = client.for_fetch()

    response = await http.get("cars")

    assert response.content == b"[1]"
    assert response.url == f"{origin(upstream)}/v2/cars"
    assert upstream.paths == ["/v1/cars", "/v2/cars?page=1"]
    assert upstream.received[1].headers["x-api-key"] == "canary-key"
    assert (http.requests, http.retries) == (2, 0)


async def test_a_redirect_to_another_origin_is_refused_and_nobody_is_asked_there(
    upstreams: Open, bench: Bench
) -> None:
    upstream, other = await upstreams(), await upstreams()
    upstream.plays(upstream.says(302, Location=f"{other.url}/cars?code=canary-code"))
    client = await bench.client(upstream.url, headers=KEY)

    with pytest.raises(Unintelligible, match="the redirect leads to") as caught:
        await client.for_fetch().get("cars")

    assert origin(other) in str(caught.value)
    assert "canary" not in str(caught.value)
    assert other.connections == 0


async def test_a_redirect_to_a_listed_origin_is_followed_with_the_credential(
    upstreams: Open, bench: Bench
) -> None:
    upstream, other = await upstreams(), await upstreams()
    upstream.plays(upstream.says(302, Location=f"{other.url}/cars"))
    client = await bench.client(
        upstream.url, headers=KEY, credential_origins=(origin(other).upper() + "/",)
    )

    await client.for_fetch().get("cars")

    assert other.received[0].headers["x-api-key"] == "canary-key"


async def test_a_proxy_of_the_environment_is_not_asked(
    upstreams: Open, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream, proxy = await upstreams(), await upstreams()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, origin(proxy))
    client = await bench.client(upstream.url, headers=KEY)

    await client.for_fetch().get("cars")

    assert (len(upstream.received), proxy.connections) == (1, 0)


async def test_redirects_end_after_the_third(upstream: Scripted, bench: Bench) -> None:
    upstream.plays(upstream.says(302, Location="cars"))
    client = await bench.client(upstream.url)

    with pytest.raises(Unintelligible, match="redirected more than 3 times"):
        await client.for_fetch().get("cars")

    assert len(upstream.received) == 4


async def test_a_next_link_within_the_origin_is_followed_byte_for_byte(
    upstream: Scripted, bench: Bench
) -> None:
    client = await bench.client(upstream.url)

    await client.for_fetch().get(f"{origin(upstream)}/v1/cars?after=a%2Bb%2F=&q=x+y")
    await client.for_fetch().get("/cars?after=a%2Bb", params={"page": 2})

    assert upstream.paths == ["/v1/cars?after=a%2Bb%2F=&q=x+y", "/v1/cars?after=a%2Bb&page=2"]


@pytest.mark.parametrize(
    "link",
    [
        "http://{other}/cars?token=canary",
        "//{other}/cars",
        "https://{own}/cars",
        "http://user:canary@{own}/cars",
        "http://{own}@{other}/cars",
        "ftp://{own}/cars",
        "javascript:alert(1)",
        "http://{own}.evil.example/cars",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:127.0.0.1]/",
        "http://xn--/",
        "http://[:::]/",
        "/cars\r\nX-Evil: 1",
    ],
)
async def test_a_next_link_to_another_origin_is_refused_and_nobody_is_asked(
    upstreams: Open, bench: Bench, link: str
) -> None:
    upstream, other = await upstreams(), await upstreams()
    client = await bench.client(upstream.url, headers=KEY)
    own, foreign = (origin(each).removeprefix("http://") for each in (upstream, other))

    with pytest.raises(Unintelligible) as caught:
        await client.for_fetch().get(link.format(own=own, other=foreign))

    assert "canary" not in str(caught.value)
    assert upstream.connections == other.connections == 0


@pytest.mark.parametrize("location", ["http://api.example/v1/cars", "http://cdn.example/cars"])
def test_nothing_leads_from_https_to_http(location: str) -> None:
    upstream = origins("https://api.example/v1", "http://cdn.example", "http://api.example")
    source = upstream.target("cars", None)

    with pytest.raises(Unintelligible, match="from https to http"):
        upstream.moved(source, location)
    with pytest.raises(Unintelligible, match="from https to http"):
        upstream.target(location, None)


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("https://api.example", "cars", "https://api.example/cars"),
        ("https://api.example/v1/", "/cars", "https://api.example/v1/cars"),
        ("https://api.example/v1", "cars/7?x=1#part", "https://api.example/v1/cars/7?x=1"),
        ("https://api.example/v1", "", "https://api.example/v1"),
        ("https://api.example/v1", "?page=2", "https://api.example/v1?page=2"),
        ("https://api.example/v1", "cars/é b", "https://api.example/v1/cars/%C3%A9%20b"),
        ("https://api.example/v1", "HTTPS://API.example:443/x", "https://api.example/x"),
        ("https://api.example:443/v1", "https://api.example/x", "https://api.example/x"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/x", "http://[::1]:8080/x"),
    ],
)
def test_a_path_goes_below_the_base_url(base: str, path: str, target: str) -> None:
    assert str(origins(base).target(path, None)).replace(":443", "") == target


@pytest.mark.parametrize(
    "address",
    [
        "api.example/v1",
        "ftp://api.example",
        "https://user:canary@api.example",
        "https://api.example/v1?key=canary",
        "https://",
        "https://api.example:canary",
        "https://user:canary",
        "https://canary canary/",
    ],
)
def test_an_address_that_is_not_plain_is_a_configuration_error(address: str) -> None:
    for upstream in (
        Upstream(address, quotas=()),
        Upstream("https://api.example", quotas=(), credential_origins=(address,)),
    ):
        with pytest.raises(
            ConfigError, match=r"is no http or https address|holds more than"
        ) as caught:
            Origins("cars", upstream, secrets=())
        assert "canary" not in "".join(traceback.format_exception(caught.value))


async def test_an_api_beside_is_asked_with_its_own_header_fields_and_none_of_the_others(
    upstreams: Open, bench: Bench
) -> None:
    upstream, other = await upstreams(), await upstreams()
    beside = {origin(other): {"authorization": Secret("Bearer canary-other")}}
    client = await bench.client(upstream.url, headers=KEY, beside=beside)

    await client.for_fetch().get("cars")
    await client.for_fetch().post(f"{other.url}/translations", json={"text": "car"})

    assert "authorization" not in upstream.received[0].headers
    assert other.received[0].headers["authorization"] == "Bearer canary-other"
    assert "x-api-key" not in other.received[0].headers


async def test_no_redirect_leads_to_an_api_beside_or_from_there_elsewhere(
    upstreams: Open, bench: Bench
) -> None:
    upstream, other = await upstreams(), await upstreams()
    upstream.plays(upstream.says(302, Location=f"{other.url}/translations"))
    other.plays(
        other.says(307, Location=f"{other.url}/moved"),
        other.says(body=b"[1]"),
        other.says(307, Location=upstream.url),
    )
    client = await bench.client(upstream.url, headers=KEY, beside={origin(other): {}})

    with pytest.raises(Unintelligible, match="the redirect leads to"):
        await client.for_fetch().get("cars")
    assert (await client.for_fetch().get(f"{other.url}/a")).content == b"[1]"
    with pytest.raises(Unintelligible, match="the redirect leads to"):
        await client.for_fetch().get(f"{other.url}/b")

    assert other.paths == ["/v1/a", "/v1/moved", "/v1/b"]


async def test_the_key_of_an_api_beside_stands_in_no_message(upstreams: Open, bench: Bench) -> None:
    upstream, other = await upstreams(), await upstreams()
    other.plays(other.says(400, body=b'{"error": "canary-other is no key"}'))
    beside = {origin(other): {"authorization": Secret("Bearer canary-other")}}
    client = await bench.client(upstream.url, headers=KEY, beside=beside)

    with pytest.raises(Unintelligible) as caught:
        await client.for_fetch().get(f"{other.url}/translations")

    assert "canary" not in str(caught.value)
