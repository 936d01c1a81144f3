"""What a provider notes of effects: what came, what it took, what its answers did not settle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import TypeVar

import attrs

Name = tuple[str, str]  # kind and key


@attrs.frozen
class Sent:
    """One effect in one call, as it arrived."""

    left_at: float
    sender: int
    payload: str


M = TypeVar("M", bound=str)


class Provider(ABC):
    """Whoever takes effects, and what the laws ask of it; `chance`: of a call to meet mischief."""

    def __init__(self, *, chance: float, random: Random) -> None:
        self.chance = chance
        self._random = random
        self.met: Counter[str] = Counter()
        self.sent: dict[Name, list[Sent]] = {}
        self.accepted: list[Name] = []  # in their order
        self.excused: Counter[Name] = Counter()  # sendings whose answer settled nothing

    def note(self, name: Name, sent: Sent) -> None:
        self.sent.setdefault(name, []).append(sent)

    def excuse(self, names: Iterable[Name]) -> None:
        self.excused.update(names)

    def _draw(self, mischief: Sequence[M]) -> M | None:
        """Draw what befalls a call, if anything does."""
        if not self.chance or self._random.random() >= self.chance:
            return None
        drawn = self._random.choice(mischief)
        self.met[drawn] += 1
        return drawn

    @property
    def sent_by_two(self) -> int:
        """Return how many effects more than one daemon has sent."""
        return sum(len({each.sender for each in sent}) > 1 for sent in self.sent.values())

    @abstractmethod
    def refusal(self, name: Name) -> str | None:
        """Return what it says of an effect that it never takes; `None` of one that it does."""
