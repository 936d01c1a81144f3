"""Who is next: classes by weight, and inside a class account by account.

Deficit round robin (Shreedhar and Varghese 1995) over the classes: each in turn may spend its
weight, and keeps what it could not spend on a dear request for its next turn. Inside a class as
many requests of each account in turn as its weight says: where all weigh 1, as by default, one with
10,000 pages delays the 299 others by one request. Who has no waiters saves nothing up.
"""

from __future__ import annotations

import math
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
class _Account(Generic[Item]):
    weight: float
    requests: float  # that it may send before its turn is over
    waiting: deque[tuple[float, Item]] = attrs.field(factory=deque)


@attrs.define
class _Class(Generic[Item]):
    deficit: float = 0.0
    accounts: dict[str, _Account[Item]] = attrs.field(factory=dict)  # in turn

    @property
    def first(self) -> str:
        """Return whose turn it is; one of a small weight is passed by until it has saved up one."""
        while True:
            name, account = next(iter(self.accounts.items()))
            if account.requests >= 1:
                return name
            account.requests += account.weight
            self._put_behind(name)

    @property
    def charge(self) -> float:
        return self.accounts[self.first].waiting[0][0]

    def take(self) -> Item:
        name = self.first
        account = self.accounts[name]
        charge, item = account.waiting.popleft()
        account.requests -= 1
        self.deficit -= charge
        if not account.waiting:
            del self.accounts[name]
        elif account.requests < 1:
            account.requests += account.weight
            self._put_behind(name)
        return item

    def _put_behind(self, name: str) -> None:
        self.accounts[name] = self.accounts.pop(name)


class FairQueue(Generic[Item]):
    """Waiters, taken in a fair order."""

    def __init__(self) -> None:
        self._classes: dict[Traffic, _Class[Item]] = {}  # those with waiters, in turn
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(
        self,
        item: Item,
        *,
        traffic: Traffic,
        account: str,
        charge: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        """Let an item wait; `charge` is what it will take of the quota, in typical requests.

        `weight`, above 0: of its account among those that wait in its class.
        """
        accounts = self._classes.setdefault(traffic, _Class()).accounts
        if account not in accounts:
            accounts[account] = _Account(weight, weight)
        accounts[account].waiting.append((charge, item))
        self._count += 1

    def pop(self) -> Item:
        """Take who is next."""
        self._save_up()
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

    def _save_up(self) -> None:
        """Give each class at once what rounds would in which none could spend anything.

        One request may cost as much as thousands of others: that many rounds take a while.
        """
        rounds = min(
            math.ceil((each.charge - each.deficit) / WEIGHTS[traffic])
            for traffic, each in self._classes.items()
        )
        if rounds > 1:
            for traffic, each in self._classes.items():
                each.deficit += (rounds - 1) * WEIGHTS[traffic]

    def remove(self, item: Item, *, traffic: Traffic, account: str) -> None:
        """Let an item wait no more."""
        accounts = self._classes[traffic].accounts
        waiting = accounts[account].waiting
        waiting.remove(next(each for each in waiting if each[1] is item))
        self._count -= 1
        if not waiting:
            del accounts[account]
        if not accounts:
            del self._classes[traffic]
