"""What a record class does not know of a record is named, once, and nothing else (P29)."""

from __future__ import annotations

import json
from typing import Any, TypedDict

import attrs
import msgspec
import pytest

from syncd.drift import FIELDS_MAX, NAME_MAX, Novelties, Shape


@attrs.define
class Maker:
    name: str


class Wheel(msgspec.Struct, rename="camel"):
    rim_size: int


class Paint(TypedDict, total=False):
    colour: str


@attrs.define
class Car:
    id: int
    maker: Maker | None = None
    wheels: list[Wheel] | None = None
    paint: Paint | None = None
    extra: dict[str, Any] | None = None
    anything: Any = None


def unknown(value: Any, record: type[Any] = Car) -> set[str]:
    shape = Shape.of(record)
    assert shape is not None
    return set(shape.unknown(json.dumps(value).encode()))


@pytest.mark.parametrize(
    ("value", "new"),
    [
        ({"id": 1}, set()),
        ({"id": 1, "vin": "x", "year": 2}, {"vin", "year"}),
        ({"maker": {"name": "a", "land": "de"}}, {"maker.land"}),
        ({"maker": None, "wheels": None}, set()),
        ({"wheels": [{"rimSize": 1, "rim_size": 1}]}, {"wheels.rim_size"}),
        ({"paint": {"colour": "red", "code": 1}}, {"paint.code"}),
        ({"extra": {"a": {"b": 1}}, "anything": {"c": 1}}, set()),
        ({"maker": "a name", "wheels": {"0": {}}}, {"wheels.0"}),
        ([{"vin": 1}], {"vin"}),
        (7, set()),
    ],
)
def test_fields_that_the_class_does_not_know_are_named(value: Any, new: set[str]) -> None:
    assert unknown(value) == new


def test_bytes_that_cannot_be_read_name_nothing() -> None:
    shape = Shape.of(Car)
    assert shape is not None

    for raw in (b"{half", b"\xff", b'{"a": "\xff"}', b"[" * 100_000):
        assert shape.unknown(raw) == frozenset()


def test_a_record_of_any_fields_has_none_that_is_unknown() -> None:
    assert Shape.of(dict) is None


def test_a_class_that_holds_itself_is_looked_into_only_so_deep() -> None:
    deep: dict[str, Any] = {"id": 0}
    for n in range(50):
        deep = {"id": n, "within": deep, "new": 1}

    assert 0 < len(unknown(deep, Box)) < 50


@attrs.define
class Box:
    id: int
    within: Box | None = None


def test_names_are_short_and_harmless() -> None:
    (name,) = unknown({"nul \0 and \u202e" + "x" * 1000: 1})

    assert name.isprintable()
    assert len(name) <= NAME_MAX + 3


def test_each_field_is_asked_about_once_and_not_without_end() -> None:
    novelties = Novelties()

    assert novelties.unasked("shop", "cars", frozenset("ba")) == ["a", "b"]
    assert novelties.unasked("shop", "cars", frozenset("abc")) == ["c"]
    assert novelties.unasked("shop", "lots", frozenset("a")) == ["a"]
    ids = frozenset(str(n) for n in range(1000))
    assert len(novelties.unasked("shop", "cars", ids)) == FIELDS_MAX - 3
    assert novelties.unasked("shop", "cars", frozenset({"late"})) == []
