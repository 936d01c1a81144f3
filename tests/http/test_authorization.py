"""Requests are let in by what is valid when they leave, and sent once more with what is newer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from syncd.errors import Unauthorized, Unavailable, Unintelligible
from syncd.events import RequestRetried
from syncd.http import Badge
from syncd.model import Secret

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Received, Script, Scripted


def badge(version: int) -> Badge:
    token = Secret(f"token-{version}-of-north")
    return Badge.of("cars", version, {"Authorization": Secret(f"Bearer {token.reveal()}")}, token)


@attrs.define
class Office:
    """Who lets requests in (`http.Authority`): each refusal brings the next badge."""

    version: int = 1
    newest: int = 9
    seen: list[int] = attrs.field(factory=list)  # accepted
    trouble: Exception | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        return badge(self.version).secrets

    async def badge(self) -> Badge:
        return badge(self.version)

    async def newer(self, refused: Badge) -> Badge | None:
        if self.trouble is not None:
            raise self.trouble
        self.version = max(self.version, min(refused.version + 1, self.newest))
        return badge(self.version) if self.version > refused.version else None

    async def accepted(self, badge: Badge) -> None:
        self.seen.append(badge.version)


def admits(upstream: Scripted, version: int) -> None:
    """Let in who has this token; others are answered 401 with what they sent."""

    def script(request: Received) -> Script:
        sent = request.headers.get("authorization", "nothing")
        if sent == f"Bearer token-{version}-of-north":
            return upstream.says(body=b"[1]")
        return upstream.says(401, f'{{"sent": "{sent}"}}'.encode())

    upstream.judge = script


async def test_a_refused_request_is_sent_once_more_with_a_newer_credential(
    upstream: Scripted, bench: Bench
) -> None:
    admits(upstream, 2)
    office = Office()
    client = await bench.client(upstream.url, authority=office)
    http = client.for_fetch()

    assert (await http.get("a")).content == b"[1]"
    assert (await http.get("b")).content == b"[1]"

    assert upstream.paths == ["/v1/a", "/v1/a", "/v1/b"]
    assert office.seen == [2, 2]
    assert [each.reason for each in bench.emitted(RequestRetried)] == ["unauthorized"]


@pytest.mark.parametrize(("newest", "requests"), [(9, 2), (1, 1)])
async def test_a_request_that_stays_refused_raises_and_says_no_token(
    upstream: Scripted, bench: Bench, newest: int, requests: int
) -> None:
    admits(upstream, 99)
    office = Office(newest=newest)
    client = await bench.client(upstream.url, authority=office)

    with pytest.raises(Unauthorized, match=r"refused \(401\).*\*\*\*") as caught:
        await client.for_fetch().get("a")

    assert len(upstream.received) == requests
    assert "of-north" not in str(caught.value)
    assert "of-north" not in client.mask(f"said token-{office.version}-of-north")
    assert office.seen == []


async def test_what_a_renewal_raises_is_the_request_s_failure(
    upstream: Scripted, bench: Bench
) -> None:
    admits(upstream, 99)
    office = Office(trouble=Unavailable("token", "answered 503"))
    client = await bench.client(upstream.url, authority=office)

    with pytest.raises(Unavailable, match="answered 503"):
        await client.for_fetch().get("a")

    assert len(upstream.received) == 1


async def test_a_renewal_bears_no_credential_and_quotes_no_token_that_it_gets(
    upstream: Scripted, bench: Bench
) -> None:
    said = b'{"access_token": "new-of-north", "refresh_token":"other \\"of-north", "n": "x"}'
    upstream.plays(upstream.says(200, said, content_type="text/html"))
    client = await bench.client(upstream.url, authority=Office())
    http = client.for_fetch(authorized=False)

    with pytest.raises(Unintelligible, match=r'"n": "x"') as caught:
        await http.post("token", form={"a": "b"})

    assert "authorization" not in upstream.received[0].headers
    assert "of-north" not in str(caught.value)


async def test_a_token_that_cannot_be_sent_is_refused_without_being_told() -> None:
    with pytest.raises(Exception, match="header 'Authorization' cannot be sent") as caught:
        Badge.of("cars", 1, {"Authorization": Secret("Bearer a\r\nb-of-north")})

    assert "of-north" not in str(caught.value)
