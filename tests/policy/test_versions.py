"""Versions, fingerprints and documents are functions of what is declared and given."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest

from syncd.bulk import row_fingerprint, version_of
from syncd.bulk.jsonb import documents
from syncd.errors import ConfigError, RecordError
from syncd.model import Stream, Transform

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
NOON_MICROSECONDS = 1_793_620_800_000_000


@attrs.frozen
class Inner:
    id: int
    name: str | None


# --- Versions ------------------------------------------------------------------------------------


@attrs.frozen
class Versioned:
    id: int
    revision: int = 1
    updated_at: datetime | None = None
    guess: int | None = None


def versioned(field: str | None) -> Stream:
    return Stream("versioned", Versioned, key=("id",), version=field)


@pytest.mark.parametrize(
    ("field", "row", "version"),
    [
        (None, Versioned(1, revision=9), NOON_MICROSECONDS),
        ("revision", Versioned(1, revision=9), 9),
        ("revision", Versioned(1, revision=-(2**63)), -(2**63)),
        ("updated_at", Versioned(1), NOON_MICROSECONDS),
        (
            "updated_at",
            Versioned(1, updated_at=NOON - timedelta(microseconds=3)),
            NOON_MICROSECONDS - 3,
        ),
        ("updated_at", Versioned(1, updated_at=NOON + timedelta(days=3)), NOON_MICROSECONDS),
    ],
)
def test_the_version_is_what_the_stream_declares_and_never_of_the_future(
    field: str | None, row: Versioned, version: int
) -> None:
    assert version_of(versioned(field))(row, NOON) == version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("revision", 2**63),
        ("revision", -(2**63) - 1),
        ("revision", None),
        ("revision", "7"),
        ("updated_at", NOON.replace(tzinfo=None)),
        ("updated_at", "2026-11-02T12:00:00Z"),
    ],
)
def test_an_impossible_version_costs_one_record(field: str, value: Any) -> None:
    changed: dict[str, Any] = {field: value}
    with pytest.raises(RecordError):
        version_of(versioned(field))(attrs.evolve(Versioned(1), **changed), NOON)


def test_a_revision_that_may_be_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match="a revision does not compare with the time of a request"):
        version_of(versioned("guess"))


# --- Fingerprints --------------------------------------------------------------------------------


def clean(record: Any) -> Any:
    return record


CLEAN = Transform("clean", 1, clean)


@attrs.frozen
class Before:
    id: int
    name: str | None = None


@attrs.frozen
class Nested:
    id: int
    name: str | None = None
    inners: list[Inner] = attrs.field(factory=list)


@attrs.frozen
class Children:
    id: int
    children: list[Children]


BEFORE = Stream("s", Before, key=("id",))


def test_the_row_fingerprint_is_the_same_in_every_process() -> None:
    given = {"currency": "USD", "only": frozenset({"b", "a", "c"}), "since": NOON}

    fingerprint = row_fingerprint(BEFORE, [CLEAN], given)

    assert fingerprint == {"row": "6b9a5bf43a4ede9748f3d0f8cbd81405", "version_rule": "sent_at"}
    assert row_fingerprint(BEFORE, [CLEAN], dict(reversed(given.items()))) == fingerprint


@pytest.mark.parametrize(
    ("stream", "transforms", "settings"),
    [
        (attrs.evolve(BEFORE, record=Nested), [CLEAN], {}),
        (attrs.evolve(BEFORE, record=Nested, row=Before), [CLEAN], {}),
        (attrs.evolve(BEFORE, record=Children), [CLEAN], {}),
        (attrs.evolve(BEFORE, mode="insert-only"), [CLEAN], {}),
        (attrs.evolve(BEFORE, version="id"), [CLEAN], {}),
        (BEFORE, [], {}),
        (BEFORE, [attrs.evolve(CLEAN, version=2)], {}),
        (BEFORE, [attrs.evolve(CLEAN, name="other")], {}),
        (BEFORE, [CLEAN, attrs.evolve(CLEAN, order=1)], {}),
        (BEFORE, [CLEAN], {"currency": "USD"}),
    ],
)
def test_whatever_changes_rows_changes_the_fingerprint(
    stream: Stream, transforms: list[Transform], settings: dict[str, Any]
) -> None:
    assert row_fingerprint(stream, transforms, settings) != row_fingerprint(BEFORE, [CLEAN], {})


def test_what_does_not_change_rows_does_not_change_the_fingerprint() -> None:
    same = attrs.evolve(BEFORE, indexes=(("name",),))
    second = attrs.evolve(CLEAN, name="second", order=1)

    assert row_fingerprint(same, [second, CLEAN], {}) == row_fingerprint(
        BEFORE, [CLEAN, attrs.evolve(second, function=lambda record: record)], {}
    )


def test_the_version_rule_is_told_apart() -> None:
    rules = [
        row_fingerprint(versioned(field), [], {})["version_rule"]
        for field in (None, "revision", "updated_at")
    ]

    assert rules == ["sent_at", "revision:revision", "updated:updated_at"]


# --- Documents -----------------------------------------------------------------------------------


def test_documents_say_what_was_meant() -> None:
    values = [None, [None, "n", Decimal("1.10")], {"a": Inner(1, None)}, "NaN", 10**400, "\\u0000"]

    assert documents(values) == [
        None,
        b'[null,"n",1.10]',
        b'{"a":{"id":1,"name":null}}',
        b'"NaN"',
        str(10**400).encode(),
        rb'"\\u0000"',
    ]


@pytest.mark.parametrize(
    "poison",
    [
        [math.nan],
        {"a": math.inf},
        "\0",
        {"\0": 1},
        [Decimal("NaN")],
        [Inner(1, "\0")],
        {Decimal("1E9999")},
    ],
)
def test_one_poisonous_document_is_found_among_others(poison: Any) -> None:
    with pytest.raises(ValueError, match=r"NUL|JSON has no|digits"):
        documents(["sound", poison, [None]])
