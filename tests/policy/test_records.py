"""From pages to rows: each record by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec

from syncd import bulk
from syncd.model import Cursor, Page, Record, Stream, Transform
from syncd.nodes import Node, Walked
from syncd.records import RecordMaker, make_all, sight_all

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.frozen
class Item:
    id: int
    name: str = ""
    parent_id: int | None = None


STREAM = Stream("items", record=Item, key=("id",))


def page(*records: Any) -> Walked:
    node = Node.of(Cursor({}, number=7), depth=0, ordinal=7)
    return Walked(node, Page({"items": list(records)}), NOW, ())


def raw(value: Any, **parent: Any) -> Record:
    return Record(msgspec.Raw(msgspec.json.encode(value)), parent)


def maker(stream: Stream, transforms: tuple[Transform, ...] = ()) -> RecordMaker:
    fingerprint = bulk.row_fingerprint(stream, transforms, {})["row"]
    return RecordMaker.of(stream, transforms, bulk.table_of("shop", stream), fingerprint)


def made(*records: Any, transforms: tuple[Transform, ...] = ()) -> Any:
    return maker(STREAM, transforms).make(maker(STREAM, transforms).sight([page(*records)]))


def test_a_record_is_decoded_and_takes_its_parents_values() -> None:
    result = made(raw({"id": 1, "name": "a", "unknown": True}, parent_id=9))

    (row,) = result.rows
    assert (row.id, row.name, row.parent_id) == (1, "a", 9)
    assert (result.sent_at, result.cursors) == ([NOW], ["page 7"])


def test_a_record_that_cannot_be_decoded_is_set_aside_alone() -> None:
    result = made(raw({"id": 1}), raw({"id": "no number"}), raw({"id": 2}))

    assert [row.id for row in result.rows] == [1, 2]
    (rejected,) = result.rejected
    assert (rejected.reason, rejected.raw) == ("decode", b'{"id":"no number"}')
    assert "$.id" in rejected.message


def test_finished_objects_are_taken_as_they_are() -> None:
    item = Item(5)

    assert made(item).rows == [item]


def test_transforms_keep_change_drop_and_split_in_order() -> None:
    def double(item: Item) -> Any:
        return None if item.id == 1 else [item, attrs.evolve(item, id=item.id * 10)]

    def name(item: Item) -> Any:
        return attrs.evolve(item, name=f"n{item.id}")

    steps = (Transform("double", 1, double), Transform("name", 1, name, order=1))
    result = made(raw({"id": 1}), raw({"id": 2}), transforms=steps)

    assert [(row.id, row.name) for row in result.rows] == [(2, "n2"), (20, "n20")]


def test_a_transform_that_raises_sets_one_record_aside_and_is_named() -> None:
    def fail(item: Item) -> Any:
        return item if item.id == 1 else 1 // 0

    result = made(raw({"id": 1}), raw({"id": 2}), transforms=(Transform("fail", 1, fail),))

    assert [row.id for row in result.rows] == [1]
    (rejected,) = result.rejected
    assert rejected.reason == "transform"
    assert rejected.message.startswith("fail: ZeroDivisionError")


def test_streams_that_nobody_asked_for_are_not_decoded() -> None:
    assert make_all({}, sight_all({}, [page(raw({"id": "junk"}))])) == {}
