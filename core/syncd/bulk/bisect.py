"""Finding the few among many that are refused. The search is pure; `attempt` does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")
Refusal = TypeVar("Refusal", bound=Exception)


class TooManyRefused(Exception):
    """More culprits than the search was to look for; what was attempted is to be undone."""

    def __init__(self, count: int, first: Any) -> None:
        super().__init__(f"{count} refused")
        self.count = count
        self.first = first  # the first culprit, as its finder says it


def bisect(
    rows: Sequence[Row],
    attempt: Callable[[Sequence[Row]], Outcome],
    *,
    refusal: type[Refusal],
    blames: Callable[[Refusal], bool],
    most: int | None = None,
) -> tuple[list[Outcome], list[tuple[Row, Refusal]]]:
    """Attempt `rows`, which were refused together, in halves, until each culprit stands alone.

    Halves are attempted from left to right, so that what is locked is locked in the order of the
    rows. `attempt` leaves nothing behind where it raises. Errors that blame no row propagate.

    Answers with the outcomes of what was accepted, and each culprit with its error. With k
    culprits among n > 1 rows `attempt` is called at most ``2 k log2 n`` times, the logarithm being
    rounded up: a part that is refused is halved, which takes two attempts; each culprit is in one
    such part of each size, and there are so many sizes.

    Raises: `TooManyRefused` with the first culprit and its error where there are more than `most`.
    """
    accepted: list[Outcome] = []
    culprits: list[tuple[Row, Refusal]] = []

    def refused(part: Sequence[Row]) -> bool:
        try:
            accepted.append(attempt(part))
        except refusal as error:
            if not blames(error):
                raise
            if len(part) == 1:
                culprits.append((part[0], error))
                if most is not None and len(culprits) > most:
                    raise TooManyRefused(len(culprits), culprits[0]) from None
            else:
                split(part)
            return True
        return False

    def split(part: Sequence[Row]) -> None:
        left, right = part[: len(part) // 2], part[len(part) // 2 :]
        if refused(left) or len(right) == 1:
            refused(right)
        else:  # the whole was refused and the left half was not: no need to ask
            split(right)

    if len(rows) > 1:
        split(rows)
    else:
        refused(rows)
    return accepted, culprits
