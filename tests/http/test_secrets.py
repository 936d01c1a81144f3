"""No secret is in any output, though the upstream sends back whatever it was sent (P57)."""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from syncd.errors import ConfigError, SyncdError
from syncd.http.answer import Expected, unfit
from syncd.http.masking import excerpt, masked, secrets_in, secrets_of
from syncd.model import Secret

if TYPE_CHECKING:
    from tests.http.conftest import Bench, Scripted

BASIC = base64.b64encode(b"user:canary+in basic").decode()
HEADERS: dict[str, str | Secret] = {
    "Authorization": Secret(f"Basic {BASIC}"),
    "X-Store": Secret("canary/of=the store"),
    "X-Api-Key": "canary-not-wrapped",
    "X-Token": Secret("Bearer canary-bearer"),
}
ECHO = (
    f"canary-bearer {BASIC} canary+in basic {quote('canary/of=the store', safe='')} "
    "canary/of=the store Bearer canary-bearer canary-not-wrapped canary-in-query"
)
JSON_HEAD = b"Content-Type: application/json\r\n"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def everything(error: SyncdError) -> str:
    said = "".join(traceback.format_exception(error))
    for each in chain(error):
        said += f"{each}\n{each!r}\n{vars(each)}\n{each.args!r}\n"
    return said


@pytest.mark.parametrize(
    "answer",
    [
        *(
            f"HTTP/1.1 {status} {ECHO}\r\nContent-Type: text/html\r\nX-Echo: {ECHO}\r\n\r\n{ECHO}"
            for status in (200, 400, 401, 404, 500)
        ),
        f"HTTP/1.1 302 Moved\r\nLocation: http://Canary-Bearer.{BASIC}.example/{ECHO}\r\n\r\n",
        f"HTTP/1.1 302 Moved\r\nLocation: http://canary-bearer@{ECHO}/\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nContent-Type: {ECHO}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset={ECHO}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{JSON_HEAD.decode()}Content-Encoding: {ECHO}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{JSON_HEAD.decode()}Content-Length: {ECHO}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\n{ECHO}\x01\r\n\r\n",
        f"{ECHO}\r\n\r\n",
    ],
)
async def test_what_the_upstream_echoes_is_masked(
    upstream: Scripted, bench: Bench, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    upstream.plays(upstream.raw(answer.encode("latin-1")))
    client = await bench.client(upstream.url, headers=HEADERS)
    caplog.set_level(logging.DEBUG)

    with pytest.raises(SyncdError) as caught:
        await client.for_fetch().get(
            "cars/canary-bearer", params={"api_key": "canary-in-query", "page": 1}
        )

    assert upstream.received[0].headers["x-store"] == "canary/of=the store"
    said = everything(caught.value).lower()
    assert "canary" not in said
    assert BASIC.lower() not in said
    assert "canary" not in repr(bench.events)
    sent = [record.getMessage() for record in caplog.records if "response" not in record.msg]
    assert "canary" not in "\n".join(sent)


async def test_nothing_that_holds_a_secret_shows_it(upstream: Scripted, bench: Bench) -> None:
    client = await bench.client(upstream.url, headers=HEADERS)
    http = client.for_fetch()

    response = await http.get("cars", params={"api_key": "canary-in-query"})

    shown = f"{client!r} {http!r} {client.statistics!r} {response!r} {response.url} {bench.events}"
    assert "canary" not in shown


@pytest.mark.parametrize(
    "value", ["canary\n", "canary\r\nX-Evil: 1", " canary", "canary\x00", "canaryé", ""]
)
async def test_a_header_that_cannot_be_sent_is_refused_without_its_value(
    bench: Bench, value: str
) -> None:
    with pytest.raises(ConfigError, match="header 'X-Api-Key' cannot be sent") as caught:
        await bench.client("https://api.example", headers={"X-Api-Key": Secret(value)})

    assert "canary" not in everything(caught.value)


def test_a_secret_is_masked_before_a_body_is_cut() -> None:
    secrets = secrets_of({"X-Api-Key": Secret("canary-canary-canary")})

    said = excerpt(b"x" * 190 + b" canary-canary-canary", secrets)

    assert said == "x" * 190 + " ***"


def test_a_secret_is_masked_before_a_field_is_cut() -> None:
    secrets = secrets_of({"X-Api-Key": Secret("canary-canary-canary")})
    expected = Expected("text/csv", frozenset(), 1, 1, secrets)

    said = unfit(200, {"content-type": "x" * 70 + "canary-canary-canary"}, expected)

    assert said == f"answered 200 with '{'x' * 70}***', not text/csv"


def test_a_short_word_beside_a_credential_is_no_secret() -> None:
    secrets = secrets_of({"Authorization": Secret("Bearer long-credential v1"), "Accept": "json"})

    assert masked("Bearer v1 json long-credential", secrets) == "Bearer v1 json ***"


@pytest.mark.parametrize("junk", ["Basic", "Basic not-base64!", "Basic /////w=="])
def test_a_basic_credential_that_is_none_is_masked_all_the_same(junk: str) -> None:
    assert masked(f"said {junk}", secrets_of({"Authorization": Secret(junk)})) == "said ***"


def test_a_secret_that_begins_with_another_is_masked_whole() -> None:
    secrets = secrets_of({"X-Key": Secret("canary"), "X-Token": Secret("canary-long")})

    assert masked("a canary-long canary", secrets) == "a *** ***"


def test_parameters_with_the_name_of_a_secret_are_secrets() -> None:
    secrets = secrets_in("page=12345678&api_key=abc%2Fdef&access_token=t0ken&empty_key=")

    assert masked("12345678 abc/def abc%2Fdef t0ken", secrets) == "12345678 *** *** ***"
