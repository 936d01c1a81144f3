"""Pages as files: rendered once for each shape, size and generation, with what is true of them."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs
import car_rows
import msgspec
import plain_records
from layouts import TABLES
from totals import Counting, Totals

from syncd_cars import inventory, inventory_catalogue, inventory_lots, inventory_records
from syncd_cars.inventory import Inventory

DISK_BYTES_MAX = 8 * 2**30
"""What all pages may take; the sets used longest ago go first."""

_CHANGED_AT = datetime(2026, 3, 1, tzinfo=UTC)  # of the first change; later ones follow by a month
_GENERATORS = (plain_records, inventory, inventory_catalogue, inventory_lots, inventory_records)


@attrs.frozen
class Pages:
    """What one load is served."""

    shape: str
    records: int
    per_page: int
    generation: int

    @property
    def name(self) -> str:
        size = f"{self.records}x{self.per_page}"
        return f"{self.shape}-{size}-{self.generation}-{_generator_version()}"


class Truth(msgspec.Struct):
    """What stands in `truth.json` beside the pages."""

    bytes: int
    totals: dict[str, Totals]


def truth_of(pages: Pages, root: Path, *, say: Callable[[str], None] = lambda _: None) -> Truth:
    """Return what is true of some pages; render them where they are not there yet."""
    folder = root / pages.name
    if not (folder / "truth.json").exists():
        say(f"rendering {pages.name}")
        _make_room(root)
        fresh = root / f"{pages.name}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        truth = _render(pages, fresh)
        (fresh / "truth.json").write_bytes(msgspec.json.encode(truth))
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    os.utime(folder)
    return msgspec.json.decode((folder / "truth.json").read_bytes(), type=Truth)


def forget(pages: Pages, root: Path) -> None:
    """Give the room of some pages back."""
    shutil.rmtree(root / pages.name, ignore_errors=True)


def _make_room(root: Path) -> None:
    """Remove the sets used longest ago until what is there takes half of what may be."""
    root.mkdir(parents=True, exist_ok=True)
    sets = sorted((folder for folder in root.iterdir() if folder.is_dir()), key=_used_at)
    sizes = {each: sum(file.stat().st_size for file in each.iterdir()) for each in sets}
    for each in sets:
        if sum(sizes.values()) <= DISK_BYTES_MAX // 2:
            break
        shutil.rmtree(each)
        del sizes[each]


def _used_at(folder: Path) -> float:
    return folder.stat().st_mtime


def _generator_version() -> str:
    """Return a name that changes with the code that makes the pages."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in _GENERATORS:
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:8]


def _render(pages: Pages, folder: Path) -> Truth:
    counting = {layout.name: Counting(layout) for layout in TABLES[pages.shape]}
    bodies = _car_bodies if pages.shape == "cars" else _plain_bodies
    size = 0
    last = -(-pages.records // pages.per_page)
    with _no_collector():
        for number, joined in enumerate(bodies(pages, counting), start=1):
            following = f'"?page={number + 1}"' if number < last else "null"
            size += _write(folder / f"{number}.json", joined, number, following)
    _write(folder / "past.json", b"", last + 1, "null")
    return Truth(size, {name: each.totals() for name, each in counting.items()})


@contextmanager
def _no_collector() -> Iterator[None]:
    """Decode millions of objects, none of them in a cycle, without looking for cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _write(file: Path, joined: bytes, number: int, following: str) -> int:
    tail = f'],"links":{{"next":{following}}},"meta":{{"current_page":{number}}}}}'
    return file.write_bytes(b'{"data":[' + joined + tail.encode())


def _plain_bodies(pages: Pages, counting: dict[str, Counting]) -> Iterator[bytes]:
    (layout,) = TABLES[pages.shape]
    kinds = [column.sql for column in layout.columns]
    for start in range(0, pages.records, pages.per_page):
        rows = list(
            plain_records.rows(
                start,
                start + pages.per_page,
                records=pages.records,
                generation=pages.generation,
                views=pages.shape == "viewed",
            )
        )
        counting[layout.name].add(rows)
        records = [plain_records.sent(layout.names, kinds, row) for row in rows]
        yield msgspec.json.encode(records)[1:-1]


def _car_bodies(pages: Pages, counting: dict[str, Counting]) -> Iterator[bytes]:
    cars = Inventory(pages.records, seed=7, weight="real", kept_bytes_max=2**26)
    for number in range(1, pages.generation + 1):
        moment = _CHANGED_AT.replace(month=2 + number)
        cars.change(plain_records.SHARES[number], seed=number, at=moment)
    for start in range(0, pages.records, pages.per_page):
        joined = cars.slice_of_cars(start, pages.per_page).rows
        served = msgspec.json.decode(b"[" + joined + b"]")
        counting["cars"].add([car_rows.counted(car_rows.car_row(car)) for car in served])
        lots = [row for car in served for row in car_rows.lot_rows(car)]
        counting["lots"].add([car_rows.counted(row) for row in lots])
        yield joined
