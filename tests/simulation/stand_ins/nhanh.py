"""The simulator of Nhanh's open API, answering in virtual time, with a judge for its limit.

What it answers is what ships with the connector; the judge counts the calls in place of its own
limit, and notes who has been told of a lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import format_datetime
from random import Random
from typing import Any

from inline import BEGAN_AT, now
from judge import Allowed, Judge
from transport import Answer, Told
from transport import Asked as Arriving

from syncd_nhanh.simulator_answers import CUSTOMERS, PAGE_MAX, Asked, Nhanh
from syncd_nhanh.simulator_customers import BEGAN_AT as FIRST_AT
from syncd_nhanh.simulator_customers import SPACING_SECONDS, Customers
from syncd_nhanh.simulator_limit import lock_ends_at

__all__ = ["HOST", "PAGE_MAX", "TRUTH", "Upstream", "boundaries"]

HOST = "pos.open.nhanh.test"
TRUTH = "SELECT account_id, business_id, id, name, points FROM nhanh.customers"


def boundaries(customers: int, windows: int) -> list[str]:
    """Return moments that part customers into as many windows, of equal shares."""
    share = -(-customers // windows)
    edges = [FIRST_AT + n * share * SPACING_SECONDS for n in range(1, windows)]
    return [str(edge - SPACING_SECONDS // 2) for edge in edges]


class _Gate:
    """The judges in place of the simulator's own limit; `told` is to hear of the last lock."""

    def __init__(self, judges: Mapping[str, Judge]) -> None:
        self._judges = judges
        self.arriving: Arriving | None = None
        self.told: Told | None = None

    def passes(self, key: str, _: float) -> float | None:
        assert self.arriving is not None
        asked, judge = self.arriving, self._judges[key]
        locked_until = judge.locked_until
        if judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return None
        until = lock_ends_at(asked.at, locked_until)
        self.told = judge.lock(asked.at, until)
        return BEGAN_AT.timestamp() + until


class Upstream:
    """Businesses with customers, each with a limit of its own for the one URL."""

    def __init__(
        self,
        businesses: Mapping[int, int],
        *,
        allowed: Allowed,
        seconds: float = 0.0,
        real_statuses: bool = False,
    ) -> None:
        self._customers = {
            business: Customers(number, weight="slim") for business, number in businesses.items()
        }
        keys = map(self._key, businesses)
        self.judges: Mapping[str, Judge] = {key: Judge(key, allowed) for key in keys}
        self._gate = _Gate(self.judges)
        self._nhanh = Nhanh(
            self._customers,
            at=BEGAN_AT.timestamp(),
            gate=self._gate,
            real_statuses=real_statuses,
        )
        self._seconds = seconds

    @staticmethod
    def _key(business: int) -> str:
        return f"{CUSTOMERS} of {business}"

    def judge_of(self, asked: Arriving) -> Judge:
        return self.judges[self._key(int(asked.query["businessId"]))]

    def answer(self, asked: Arriving) -> Answer:
        gate = self._gate
        gate.arriving, gate.told = asked, None
        said = self._nhanh.answer(
            Asked(
                method=asked.method,
                path=asked.path,
                query=asked.query,
                authorization=asked.headers.get("authorization", ""),
                body=asked.body,
                at=now().timestamp(),
            )
        )
        date = format_datetime(now(), usegmt=True)
        headers = {"content-type": said.content_type, "date": date}
        seconds = 0.0 if gate.told else self._seconds
        return Answer(said.status, said.body, headers, seconds, gate.told)

    def change(self, random: Random) -> None:
        """Let points move, with `updatedAt` or without, and a new customer come."""
        at = now().timestamp()
        for customers in self._customers.values():
            for place in random.sample(range(len(customers)), k=len(customers) // 3):
                customers.change(place, random.choice((at, None)))
        random.choice(list(self._customers.values())).add(at)

    def truth(self) -> set[tuple[Any, ...]]:
        return {
            (f"business-{business}", business, found["id"], found["name"], found["points"])
            for business, customers in self._customers.items()
            for found in map(customers.record, customers.living)
        }
