"""What a stream redacts is in no byte and no word of what is kept of a record."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import Rejected
from syncd.redaction import WITHHELD, Redaction, without_secrets


def aside(raw: bytes | None, message: str = "no") -> Rejected:
    return Rejected("people", "dump", message, raw, '{"id": 1}')


def redacted(value: Any, *fields: str) -> Any:
    one = Redaction.of(fields)(aside(json.dumps(value).encode()))
    assert one.raw is not None
    return json.loads(one.raw)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (
            {"id": 1, "owner": {"email": "a@b", "n": 2}},
            {"id": 1, "owner": {"email": "***", "n": 2}},
        ),
        ({"owner": [{"email": "a"}, {"email": "b"}]}, {"owner": [{"email": "***"}] * 2}),
        ({"owner": {"email": ["a", {"x": 1}]}}, {"owner": {"email": "***"}}),
        ({"owner": {"email": None}}, {"owner": {"email": None}}),
        ({"owner": "a@b"}, {"owner": "***"}),
        ({"owner": None}, {"owner": None}),
        ({"id": 1}, {"id": 1}),
        ([{"owner": {"email": "a"}}], [{"owner": {"email": "***"}}]),
        ("a@b", "***"),
    ],
    ids=str,
)
def test_a_path_is_followed_through_objects_and_arrays(value: Any, left: Any) -> None:
    assert redacted(value, "owner.email") == left


def test_what_came_is_known_by_its_size_and_hash() -> None:
    raw = b'{"id": 1, "email": "somebody"}'

    one = Redaction.of(["email"])(aside(raw))

    assert one.raw == b'{"id":1,"email":"***"}'
    assert (one.raw_bytes, one.raw_hash) == (len(raw), blake2b(raw, digest_size=16).digest())


@pytest.mark.parametrize(
    "raw", [b'{"email": "half', b"\xff\xfe", b'{"email": "\xff"}', b"", b"[" * 100_000]
)
def test_bytes_that_cannot_be_read_are_not_kept_nor_what_was_said_of_them(raw: bytes) -> None:
    one = Redaction.of(["email"])(aside(raw, "email: somebody"))

    assert (one.raw, one.message) == (None, WITHHELD)
    assert (one.raw_bytes, one.raw_hash) == (len(raw), blake2b(raw, digest_size=16).digest())


def test_of_a_record_without_bytes_nothing_that_was_said_is_kept() -> None:
    one = Redaction.of(["email"])(aside(None, "email: somebody"))

    assert (one.raw, one.message, one.raw_hash) == (None, WITHHELD, None)


def test_a_stream_that_redacts_nothing_keeps_what_came() -> None:
    one = aside(b'{"half', "said")

    assert Redaction.of([])(one) is one


SCALARS = st.text(min_size=1) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner)
)


def scalars(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [each for inner in value.values() for each in scalars(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in scalars(inner)]
    return [value]


@given(VALUES, st.sampled_from([str, repr, json.dumps]))
def test_no_message_quotes_a_redacted_value(value: Any, quote: Any) -> None:
    raw = json.dumps({"kept": 1, "email": value}).encode()
    for each in scalars(value):
        quoted = quote(each)
        one = Redaction.of(["email"])(aside(raw, f"<{quoted}>"))

        assert one.raw == b'{"kept":1,"email":"***"}'
        assert one.message in {"<***>", '<"***">', "<'***'>"} or "*" in one.message
        assert set(str(each)) <= set("<>*'\"") or str(each) not in one.message


def test_a_secret_that_came_back_is_masked_in_bytes_and_words() -> None:
    def mask(text: str) -> str:
        return text.replace("key-17", "***")

    raw = b'{"you": "key-17", "bad": "\xff"}'
    one = without_secrets(aside(raw, "you: key-17"), mask)

    assert (one.raw, one.message) == (b'{"you": "***", "bad": "\xff"}', "you: ***")
    assert (one.raw_bytes, one.raw_hash) == (len(raw), blake2b(raw, digest_size=16).digest())
    assert without_secrets(aside(b"{}"), mask) == aside(b"{}")
