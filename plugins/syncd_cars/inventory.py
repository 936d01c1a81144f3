"""The cars that the simulated upstream holds now, and what can happen to them.

All methods are synchronous and finish in one step of the event loop: between two requests the
inventory is always whole, however often it moves during a pass.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from syncd_cars import inventory_catalogue as catalogue
from syncd_cars.inventory_kept import KeptRecords
from syncd_cars.inventory_model import (
    UNTOUCHED,
    UNTOUCHED_BEFORE,
    Life,
    Weight,
    car_id,
    index_of,
)
from syncd_cars.inventory_records import Renderer

T = TypeVar("T")

CARS = 190_000  # the size of the feed that syncd was first built for

_KEPT_BYTES_MAX = 2 * 1024**3


class Slice(msgspec.Struct, frozen=True):
    """A stretch of rows: their JSON joined by commas, how many, and how many there are in all."""

    rows: bytes
    count: int
    total: int


def utc_now() -> datetime:
    """Read the clock of the machine."""
    return datetime.now(UTC)


class Inventory:
    """A seeded set of cars that moves only when it is told to.

    The feed is ordered by id, the highest first. Times of what moves are `now()` unless given. An
    id that is not in the feed is a ValueError.
    """

    def __init__(
        self,
        cars: int = CARS,
        *,
        seed: int = 1,
        weight: Weight = "demo",
        now: Callable[[], datetime] = utc_now,
        kept_bytes_max: int = _KEPT_BYTES_MAX,
    ) -> None:
        """Begin with `cars` cars that were all updated before 2026."""
        self.now = now
        self._renderer = Renderer(seed, weight)
        self._kept = KeptRecords(self._render, bytes_max=kept_bytes_max)
        self._feed = list(range(cars))  # ascending: the head of the feed is its end
        self._inserted = cars
        self._lives: dict[int, Life] = {}
        self._archived: list[tuple[datetime, bytes]] = []
        self._feed_of_brands: dict[frozenset[int], list[int]] = {}

    def __len__(self) -> int:
        return len(self._feed)

    @property
    def rendered(self) -> int:
        """How many records were rendered so far; a record served again costs nothing."""
        return self._kept.rendered

    def _render(self, index: int) -> bytes:
        return self._renderer.car(index, self._lives.get(index, UNTOUCHED))

    # what is true

    def cars(self) -> Iterator[dict[str, Any]]:
        """Yield every car of the feed as `/cars` serves it, the newest first."""
        for index in reversed(tuple(self._feed)):
            yield msgspec.json.decode(self._render(index))

    def car(self, identity: int) -> dict[str, Any]:
        """Return one car of the feed as `/cars` serves it."""
        car: dict[str, Any] = msgspec.json.decode(self._render(self._indices([identity])[0]))
        return car

    def archived_lots(self) -> Iterator[dict[str, Any]]:
        """Yield every row of `/archived-lots`, the newest first."""
        for _, row in reversed(tuple(self._archived)):
            yield msgspec.json.decode(row)

    def manufacturers(self) -> list[dict[str, Any]]:
        """Return the rows of `/manufacturers/cars`; `cars_qty` counts the feed as it is now."""
        quantities = self._renderer.count_by_brand(self._feed)
        return [
            {
                "id": brand.id,
                "name": brand.name,
                "cars_qty": quantities[brand.id],
                "image": f"https://images.auctions.example/brands/{brand.id}.svg",
                "models_qty": len({line.title for line in brand.lines}),
                "cars": True,
                "motorcycles": False,
            }
            for brand in catalogue.BRANDS
        ]

    # what can happen

    def change(self, share: float, *, seed: int, at: datetime | None = None) -> list[int]:
        """Change one lot of `share` (0 to 1) of the cars, drawn by `seed`; return their ids.

        Its bid rises, its status may move on, `updated_at` becomes `at`; a quarter of the cars have
        their colour corrected too.
        """
        count = round(share * len(self._feed))
        chosen = random.Random(seed).sample(self._feed, count)  # noqa: S311 - no secret
        moment = self._moment(at)
        for index in chosen:
            life = self._lives.get(index, UNTOUCHED)
            self._lives[index] = life.changed(lots=self._renderer.lots_of(index), at=moment)
            self._kept.forget(index)
        return _ids(chosen)

    def insert_at_head(self, cars: int, *, at: datetime | None = None) -> list[int]:
        """Add `cars` new cars before all others, which shifts every page; return their ids."""
        moment = self._moment(at)
        indices = range(self._inserted, self._inserted + cars)
        self._inserted += cars
        self._lives.update((index, Life(moment, created_at=moment)) for index in indices)
        self._set_feed([*self._feed, *indices])
        return _ids(indices)

    def archive(
        self, which: int | Iterable[int], *, seed: int = 0, at: datetime | None = None
    ) -> list[int]:
        """Move cars from the feed to `/archived-lots`; return their ids.

        `which` is ids, or how many to draw by `seed`.
        """
        if isinstance(which, int):
            indices = random.Random(seed).sample(self._feed, which)  # noqa: S311 - no secret
        else:
            indices = self._indices(which)
        moment = self._moment(at)
        for index in sorted(indices):
            life = self._lives.pop(index, UNTOUCHED)
            rows = self._renderer.archived_lots(index, life, at=moment)
            self._archived.extend((moment, msgspec.json.encode(row)) for row in rows)
        gone = set(indices)
        self._set_feed([index for index in self._feed if index not in gone])
        return _ids(indices)

    def _moment(self, at: datetime | None) -> datetime:
        """Cut to whole seconds: what the upstream shows, and so what its filters see."""
        return (at or self.now()).replace(microsecond=0)

    def _set_feed(self, feed: list[int]) -> None:
        self._feed = feed
        self._feed_of_brands.clear()

    def _indices(self, ids: Iterable[int]) -> list[int]:
        feed, indices = self._feed, []
        for identity in ids:
            index = index_of(identity)
            position = -1 if index is None else bisect_left(feed, index)
            if index is None or feed[position : position + 1] != [index]:
                message = f"car simulator: no car {identity!r} in the feed; name one that is served"
                raise ValueError(message)
            indices.append(index)
        return indices

    # what is served

    def slice_of_cars(
        self,
        start: int,
        count: int,
        *,
        minutes: int | None = None,
        brands: frozenset[int] | None = None,
    ) -> Slice:
        """Return `count` cars from position `start` (0 is the newest) of the filtered feed.

        `minutes` keeps what was updated within so many minutes, `brands` the manufacturers' ids.
        """
        feed = self._filtered(minutes=minutes, brands=brands)
        chosen = _from_the_end(feed, start, count)
        return Slice(rows=self._kept.joined(chosen), count=len(chosen), total=len(feed))

    def slice_of_archived_lots(self, start: int, count: int, *, minutes: int | None) -> Slice:
        """Return `count` archived lots from position `start` (0 is the newest)."""
        rows = self._archived
        if minutes is not None:
            since = self.now() - timedelta(minutes=minutes)
            rows = [(at, row) for at, row in rows if at >= since]
        chosen = _from_the_end(rows, start, count)
        joined = b",".join(row for _, row in chosen)
        return Slice(rows=joined, count=len(chosen), total=len(rows))

    def _filtered(self, *, minutes: int | None, brands: frozenset[int] | None) -> list[int]:
        if minutes is not None:
            feed = self._updated_since(self.now() - timedelta(minutes=minutes))
            return feed if brands is None else self._renderer.of_brands(brands, feed)
        if brands is None:
            return self._feed
        if brands not in self._feed_of_brands:
            self._feed_of_brands[brands] = self._renderer.of_brands(brands, self._feed)
        return self._feed_of_brands[brands]

    def _updated_since(self, since: datetime) -> list[int]:
        if since >= UNTOUCHED_BEFORE:
            touched = self._lives.items()
            return sorted(index for index, life in touched if life.touched_at >= since)
        lives, updated_at = self._lives, self._renderer.updated_at
        return [i for i in self._feed if updated_at(i, lives.get(i, UNTOUCHED)) >= since]


def _from_the_end(rows: Sequence[T], start: int, count: int) -> list[T]:
    """Return `count` rows from `start`, where position 0 is the last row."""
    stop = max(len(rows) - start, 0)
    return list(reversed(rows[max(stop - count, 0) : stop]))


def _ids(indices: Iterable[int]) -> list[int]:
    """Return the ids, the newest first."""
    return sorted((car_id(index) for index in indices), reverse=True)
