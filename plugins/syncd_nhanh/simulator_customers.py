"""The customers of one simulated business: invented, seeded, and on the move.

What is odd about some of them is what the API's users report, or what its documentation leaves
open: no `updatedAt`, a birthday of zeros or none, keys that are missing, "" for nothing, a NUL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from random import Random
from typing import Any, Literal

Weight = Literal["full", "slim"]

FIRST_ID = 142_000_000
SPACING_SECONDS = 60  # of `updatedAt`, from one customer to the next
BEGAN_AT = 1_640_995_200  # 2022-01-01, when the first one came

UNDATED_ONE_IN = 50
ZERO_BIRTHDAY_ONE_IN = 13
NUL_ONE_IN = 331
SPARSE_ONE_IN = 11

_FAMILY = ("Nguyễn", "Trần", "Lê", "Phạm", "Hoàng", "Vũ", "Đặng", "Bùi")
_GIVEN = ("Thị An", "Văn Bình", "Minh Châu", "Thu Hà", "Quốc Khánh", "Ngọc Lan", "Hữu Phước")
_STREETS = ("Lê Lợi", "Hai Bà Trưng", "Trần Phú", "Nguyễn Huệ", "Phan Chu Trinh")


class Customers:
    """The customers of a business, listed by falling id.

    `weight` ``"slim"``: nothing but id, name, points and `updatedAt`, and nothing odd, where only
    counts matter. `gone` are places that are cut out of a page after it was cut, as deleted
    customers are: the page then has fewer rows, and goes on.
    """

    def __init__(
        self, number: int, *, seed: int = 0, weight: Weight = "full", gone: Iterable[int] = ()
    ) -> None:
        self.weight = weight
        self.gone = set(gone)
        self._seed = seed
        self._points = [1] * number
        self._updated: list[int | None] = [
            None if self._is_undated(place) else BEGAN_AT + place * SPACING_SECONDS
            for place in range(number)
        ]

    def __len__(self) -> int:
        return len(self._points)

    def _is_undated(self, place: int) -> bool:
        return self.weight == "full" and place % UNDATED_ONE_IN == UNDATED_ONE_IN - 1

    def id_of(self, place: int) -> int:
        return FIRST_ID + place

    @property
    def living(self) -> list[int]:
        """Return the places of all customers that are there."""
        return [place for place in range(len(self)) if place not in self.gone]

    # -- what moves ----------------------------------------------------------------------------

    def change(self, place: int, at: float | None) -> None:
        """Give a customer another point; `at` becomes its `updatedAt`, `None` leaves that as is."""
        self._points[place] += 1
        if at is not None and self._updated[place] is not None:
            self._updated[place] = int(at)

    def add(self, at: float) -> int:
        """Let a customer come; answer with its place."""
        self._points.append(0)
        self._updated.append(int(at))
        return len(self) - 1

    # -- what is asked for ---------------------------------------------------------------------

    def matching(
        self, filters: Mapping[str, Any], *, below: int | None = None, most: int | None = None
    ) -> list[int]:
        """Return places whose customers pass the filters, gone ones too, by falling id.

        Both bounds of `updatedAt` are inside. `below`: only those of a smaller id.
        """
        first = len(self) - 1 if below is None else min(below - FIRST_ID, len(self)) - 1
        passing = (place for place in range(first, -1, -1) if self._passes(place, filters))
        return list(islice(passing, most))

    def _passes(self, place: int, filters: Mapping[str, Any]) -> bool:
        since, until = filters.get("updatedAtFrom"), filters.get("updatedAtTo")
        if since is None and until is None:
            return True
        updated = self._updated[place]
        if updated is None:
            return False
        return (since is None or updated >= since) and (until is None or updated <= until)

    def record(self, place: int) -> dict[str, Any]:
        """Return a customer as the API sends it."""
        if self.weight == "slim":
            return {
                "id": self.id_of(place),
                "name": f"customer {place}",
                "points": self._points[place],
                "updatedAt": self._updated[place],
            }
        found = self._whole(place)
        if self._updated[place] is None:
            del found["updatedAt"]
        if place % SPARSE_ONE_IN == 0:  # empty texts and missing keys both occur
            for name in ("address", "taxCode", "location", "group"):
                del found[name]
            found |= {"email": "", "saleName": "", "business": [], "level": None}
        if place % ZERO_BIRTHDAY_ONE_IN == 0:
            found["birthday"] = ("0000-00-00", "", None)[place // ZERO_BIRTHDAY_ONE_IN % 3]
        if self.has_nul(place):
            found["name"] = f"{found['name']}\0"
        return found

    def has_nul(self, place: int) -> bool:
        """Say whether a customer's name holds what PostgreSQL has no text for."""
        return self.weight == "full" and place % NUL_ONE_IN == NUL_ONE_IN - 1

    def _whole(self, place: int) -> dict[str, Any]:
        chance = Random(f"customer {self._seed} {place}")  # noqa: S311 - invented people
        city, ward = chance.randint(1, 300), chance.randint(1, 9000)
        level, group = chance.randint(1, 4), chance.randint(1, 20)
        points = self._points[place]
        return {
            "id": self.id_of(place),
            "type": chance.randint(1, 3),
            "name": f"{chance.choice(_FAMILY)} {chance.choice(_GIVEN)}",
            "mobile": f"09{chance.randint(0, 99_999_999):08}",
            "code": f"KH{place:05}",
            "gender": chance.randint(1, 2),
            "address": f"{chance.randint(1, 300)} {chance.choice(_STREETS)}",
            "email": f"customer{place}@example.vn",
            "birthday": f"{chance.randint(1950, 2008)}-{chance.randint(1, 12):02}-15",
            "points": str(points) if place % 7 == 0 else points,
            "saleName": chance.choice(_GIVEN),
            "startedDate": f"20{chance.randint(18, 25)}-02-11",
            "taxCode": f"{chance.randint(10**9, 10**10 - 1)}",
            "locations": {"cityId": city, "districtId": city + 300, "wardId": ward},
            "location": {"cityId": city, "wardId": ward},
            "business": {"name": "", "address": ""},
            "level": {"id": level, "name": f"Level {level}"},
            "group": {"id": group, "name": f"Group {group}"},
            "totalAmount": points * 15_250_000.5,
            "updatedAt": self._updated[place],
        }


def with_holes(number: int, page: int = 100) -> list[int]:
    """Return places to be gone so that the second page has 60 in 100 and the fourth has none."""
    second = range(number - page - 2 * page // 5, number - page)
    fourth = range(number - 4 * page, number - 3 * page)
    return [place for place in (*second, *fourth) if place >= 0]
