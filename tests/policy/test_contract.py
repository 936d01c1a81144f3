"""What plugins answer with is looked at before it is used."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import attrs
import msgspec
import pytest

from syncd.contract import (
    OPENS_MAX,
    distinct,
    fault_of_kind,
    refuse_unfit_cursors,
    refuse_unfit_page,
    sealable,
)
from syncd.errors import PluginError
from syncd.model import Credential, Cursor, EffectKind, Page, Record, Secret, Slice

RAW = msgspec.Raw(b'{"id":5}')
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "no records": ({"records": None}, "NoneType for its records"),
    "records of nobody": ({"records": [Record(RAW)]}, "list for its records"),
    "a stream of others": ({"records": {"parcels": []}}, r"unknown streams \['parcels'\]"),
    "a stream without a text": ({"records": {7: []}}, r"unknown streams \[7\]"),
    "a number of records": ({"records": {"things": 7}}, "int for the records of things"),
    "text for records": ({"records": {"things": "[]"}}, "str for the records of things"),
    "no bytes": ({"records": {"things": [Record(None)]}}, "without bytes"),  # type: ignore[arg-type]
    "no parent": ({"records": {"things": [Record(RAW, None)]}}, "parent is no"),  # type: ignore[arg-type]
    "no cursors": ({"opens": None}, "opens NoneType"),
    "too many cursors": ({"opens": (Cursor(1),) * (OPENS_MAX + 1)}, "100001 cursors"),
    "an end in words": ({"end": "false"}, "of its end str"),
    "a total in words": ({"total": "many"}, "str for its total"),
    "a part for a total": ({"total": 1.5}, "float for its total"),
    "a date in words": ({"date": "today"}, "no moment"),
    "a date of no zone": ({"date": datetime(2026, 1, 1)}, "no moment"),  # noqa: DTZ001
}
ODD_CURSORS: dict[str, tuple[Any, str]] = {
    "text": ("next", "is str"),
    "NUL": (Cursor({"after": ["a\\\0b"]}), "holds NUL"),
    "no JSON": (Cursor(object()), "is no JSON"),  # type: ignore[arg-type]
    "half a character": (Cursor("\ud800"), "is no JSON"),
    "without end": (Cursor("x" * 9000), "larger than 8192"),
    "a number in words": (Cursor({}, number="one"), "no page has: 'one'"),  # type: ignore[arg-type]
    "a number for true": (Cursor({}, number=True), "no page has: True"),
    "a number beyond numbers": (Cursor({}, number=2**31), "no page has"),
    "a number below zero": (Cursor({}, number=-1), "no page has"),
    "a kind of its own": (Cursor({}, kind="thing"), "of no kind: 'thing'"),  # type: ignore[arg-type]
    "a version in words": (Cursor({}, version="one"), "64 bits: 'one'"),  # type: ignore[arg-type]
    "a version beyond numbers": (Cursor({}, version=2**63), "64 bits"),
}

ODD_SLICES: dict[str, tuple[Any, str]] = {
    "no text": (Slice(7), "its name is int"),  # type: ignore[arg-type]
    "NUL": (Slice("a\0"), "what no database keeps"),
    "half a character": (Slice("\ud800"), "what no database keeps"),
    "a name without end": (Slice("\u00e9" * 257), "longer than 512 bytes"),
    "no object": (Slice("a", ["b"]), "its settings are list"),  # type: ignore[arg-type]
    "no JSON": (Slice("a", {"b": object()}), "are no JSON"),
    "half a character in settings": (Slice("a", {"b": "\ud800"}), "are no JSON"),
    "settings without end": (Slice("a", {"b": "x" * 65536}), "larger than 65536"),
    "NUL in settings": (Slice("a", {"b": "\0"}), "settings hold NUL"),
    "a priority in words": (Slice("a", priority="high"), "no number of seconds: 'high'"),  # type: ignore[arg-type]
    "a priority beyond numbers": (Slice("a", priority=2**31), "no number of seconds"),
    "what it covers": (Slice("a", covers="most"), "it covers 'most'"),  # type: ignore[arg-type]
    "two that differ": (Slice("inb_1", {"a": 1}), "two slices 'inb_1'"),
}


@pytest.mark.parametrize(("parts", "said"), ODD.values(), ids=ODD)
def test_a_page_that_is_none_is_its_plugins_fault(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        refuse_unfit_page(attrs.evolve(Page({}), **parts), frozenset({"things"}), "here")


@pytest.mark.parametrize(("cursor", "said"), ODD_CURSORS.values(), ids=ODD_CURSORS)
def test_a_cursor_that_cannot_be_kept_is_its_plugins_fault(cursor: Any, said: str) -> None:
    page = Page({}, opens=(Cursor(1), cursor))
    with pytest.raises(PluginError, match=said):
        refuse_unfit_page(page, frozenset(), "here")
    with pytest.raises(PluginError, match=said):
        refuse_unfit_cursors([cursor], "here")


@pytest.mark.parametrize(("told", "said"), ODD_SLICES.values(), ids=ODD_SLICES)
def test_a_slice_that_cannot_be_kept_is_its_plugins_fault(told: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        distinct([Slice("inb_1"), told], "here")


ODD_KINDS: dict[str, dict[str, Any]] = {
    "no slot": {"concurrency": 0},
    "slots in words": {"concurrency": "4"},
    "no effect a call": {"bulk_max": 0},
    "less than none": {"bulk_max": -1},
    "a deadline that is none": {"deadline_seconds": math.nan},
    "a deadline in words": {"deadline_seconds": "60"},
    "no end": {"deadline_seconds": math.inf},
    "attempts in words": {"attempts_max": "20"},
    "an age in words": {"age_max_seconds": "30d"},
    "an answer that is neither": {"skip_dead": 7},
}


@pytest.mark.parametrize("odd", ODD_KINDS.values(), ids=ODD_KINDS)
def test_a_kind_of_effects_that_cannot_be_delivered_says_why(odd: dict[str, Any]) -> None:
    kind = EffectKind("office.parcel", "parcels")
    assert fault_of_kind(kind) is None
    ((name, value),) = odd.items()
    fault = fault_of_kind(attrs.evolve(kind, **odd))
    assert fault is not None
    assert fault.startswith(f"{name} is {value!r}, ")


@pytest.mark.parametrize("details", [None, ["a"], {"a": 7}, {"a": "\ud800"}])
def test_good_tokens_are_stored_whatever_stands_beside_them(details: Any) -> None:
    before = Credential(Secret("old"), details={"open_id": "o-1"})
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    odd = Credential(Secret("new"), Secret("next"), naive, "soon", details)  # type: ignore[arg-type]

    kept = sealable(odd, before, "here")

    assert kept == Credential(Secret("new"), Secret("next"), details={"open_id": "o-1"})


@pytest.mark.parametrize("token", ["plain", None, Secret(7), Secret("\ud800")])  # type: ignore[arg-type]
def test_a_credential_without_a_token_is_its_plugins_fault(token: Any) -> None:
    before = Credential(Secret("old"))
    with pytest.raises(PluginError, match="no Secret for its access_token"):
        sealable(Credential(token), before, "here")


def test_what_only_looks_odd_is_taken() -> None:
    items = [Record(RAW), Record(RAW, {"shop": 1}), {"id": 1}]
    opens = (Cursor(r"a\u0000b"), Cursor(None, number=0), Cursor([], kind="item", version=-1))
    for total in (None, -1, 10**30):  # what an upstream says of itself is no fault of the plugin
        page = Page({"things": items}, opens, total=total)
        refuse_unfit_page(page, frozenset({"things", "others"}), "here")
        assert page.total_records("things") is None


def test_a_slice_that_is_told_twice_is_there_once() -> None:
    told = [Slice("inb_1", {"a": 1}), Slice("inb_2"), Slice("inb_1", {"a": 1})]

    assert distinct(told, "here") == [Slice("inb_1", {"a": 1}), Slice("inb_2")]
