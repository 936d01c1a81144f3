"""Who is next: classes by weight, and inside a class account by account.

Deficit round robin (Shreedhar and Varghese 1995) over the classes: each in turn may spend its
weight, and keeps what it could not spend on a dear request for its next turn. Inside a class one
request of each account in turn, so that one with 10,000 pages delays the 299 others by one request.
A class or account without waiters saves nothing up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Generic, Literal, TypeAlias, TypeVar

import attrs

# sync: what a schedule asks for; effect: what is done elsewhere because of it; backfill: the past.
Traffic: TypeAlias = Literal["sync", "effect", "backfill"]

# Nobody waits for a backfill, and it still gets a tenth where all three are waiting.
WEIGHTS: Final[Mapping[Traffic, float]] = {"sync": 6.0, "effect": 3.0, "backfill": 1.0}

Item = TypeVar("Item")


@attrs.define
class _Class(Generic[Item]):
    deficit: float = 0.0
    accounts: dict[str, deque[tuple[float, Item]]] = attrs.field(factory=dict)  # in turn

    @property
    def charge(self) -> float:
        return next(iter(self.accounts.values()))[0][0]

    def take(self) -> Item:
        account = next(iter(self.accounts))
        waiting = self.accounts.pop(account)
        charge, item = waiting.popleft()
        if waiting:
            self.accounts[account] = waiting  # behind all others
        self.deficit -= charge
        return item


class FairQueue(Generic[Item]):
    """Waiters, taken in a fair order."""

    def __init__(self) -> None:
        self._classes: dict[Traffic, _Class[Item]] = {}  # those with waiters, in turn
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, item: Item, *, traffic: Traffic, account: str, charge: float = 1.0) -> None:
        """Let an item wait; `charge` is what it will take of the quota, in typical requests."""
        waiting = self._classes.setdefault(traffic, _Class()).accounts
        waiting.setdefault(account, deque()).append((charge, item))
        self._count += 1

    def pop(self) -> Item:
        """Take who is next."""
        while True:
            traffic, first = next(iter(self._classes.items()))
            if first.deficit >= first.charge:
                break
            del self._classes[traffic]  # its turn is over; the next one begins with its weight
            self._classes[traffic] = first
            first.deficit += WEIGHTS[traffic]
        item = first.take()
        self._count -= 1
        if not first.accounts:
            del self._classes[traffic]
        return item

    def remove(self, item: Item, *, traffic: Traffic, account: str) -> None:
        """Let an item wait no more."""
        accounts = self._classes[traffic].accounts
        waiting = accounts[account]
        waiting.remove(next(each for each in waiting if each[1] is item))
        self._count -= 1
        if not waiting:
            del accounts[account]
        if not accounts:
            del self._classes[traffic]
