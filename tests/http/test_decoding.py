"""A body that has not the documented shape is unintelligible, and the place is named."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import msgspec
import pytest

from syncd.errors import Unintelligible
from syncd.http import decode
from syncd.model import Response


@attrs.frozen
class Cars:
    data: list[int]
    raw: msgspec.Raw
    name: str = ""


def response(content: bytes) -> Response:
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    return Response(200, {}, content, sent_at=moment, date=None, url="https://api.example/cars")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_body_of_the_documented_shape_is_decoded(mark: bytes) -> None:
    cars = decode(response(mark + b'{"data": [1], "raw": {"a":  1}}'), Cars, where="cars page 1")

    assert cars.data == [1]
    assert bytes(cars.raw) == b'{"a":  1}'


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "truncated"),
        (b'{"data": [1', "truncated"),
        (b'{"data": [1}', r"byte 11"),
        (b'{"data": ["x"]}', r"Expected `int`, got `str` - at `\$.data\[0\]`"),
        (b"{}", "missing required field `data`"),
        (b'{"data": [NaN]}', "byte 10"),
        (b"\xff\xfe{\x00}\x00", "byte 0"),
        (b'{"data": [1], "raw": 1, "name": "\xff"}', "utf-8|UTF-8"),
        (b'{"data": [' + b"[" * 100_000, "Expected `int`, got `array`"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply|truncated"),
    ],
)
def test_another_body_is_unintelligible_by_its_position(content: bytes, named: str) -> None:
    with pytest.raises(Unintelligible, match=named) as caught:
        decode(response(content), Cars, where="cars page 41")

    assert caught.value.where == "cars page 41"
    assert f"{len(content)} bytes" in caught.value.what
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("escaped", "handed_on"),
    [
        (rb"\ud800", b"\xed\xa0\x80"),
        (rb"\uDFFFx", b"\xed\xbf\xbfx"),
        (rb"\ud800\ud83d\ude00", rb"@\ud83d\ude00"),
        (rb"\ud800\n", rb"@\n"),
        (rb"\\ud800 \ud800", rb"\\ud800 @"),
        (rb"\\\ud800", rb"\\@"),
    ],
)
def test_half_a_pair_is_handed_on_as_bytes_that_only_its_record_suffers_from(
    escaped: bytes, handed_on: bytes
) -> None:
    body = b'{"data": [1], "raw": {"a": "' + escaped + b'"}}'

    cars = decode(response(body), Cars, where="cars page 1")

    expected = handed_on.replace(b"@", b"\xed\xa0\x80")
    assert bytes(cars.raw) == b'{"a": "' + expected + b'"}'
    with pytest.raises((UnicodeDecodeError, msgspec.DecodeError)):
        msgspec.json.decode(cars.raw)


def test_where_no_half_of_a_pair_is_to_blame_the_body_is_as_it_came() -> None:
    with pytest.raises(Unintelligible, match="byte 11"):
        decode(response(rb'{"data": [1}\ud83d\ude00'), Cars, where="cars page 1")
