"""When too much of a page is set aside: that is no page of bad records, but another API. Pure.

Records go to quarantine one by one; a change of the API, or a bug of ours, would empty a table into
it. So a page has an allowance. One that needs more is as unintelligible as a page that is no JSON:
nothing of it is written, and its cursor is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from syncd.errors import Rejected, Unintelligible
from syncd.nodes import Walked

# The few records of a small page may all be bad by accident: twenty tell an operator enough ...
SET_ASIDE_MAX = 20
# ... and of a large page some always are: two lots in a hundred of the cars API have no key. One in
# twenty is beyond what an upstream does every day.
SET_ASIDE_ONE_IN = 20


def allowance(total: int) -> int:
    """Return how many of so many records of a page may be set aside."""
    return max(SET_ASIDE_MAX, total // SET_ASIDE_ONE_IN)


class PagesOverflow(Exception):  # a signal between the transaction and who writes batches
    """Pages that are over their allowance, by cursor key; nothing of the batch was written."""

    def __init__(self, pages: Mapping[bytes, Unintelligible]) -> None:
        super().__init__(", ".join(map(str, pages.values())))
        self.pages = pages


def refuse_overflow(
    where: str,
    batch: Sequence[Walked],
    rejected: Sequence[Rejected],
    *,
    rows: Mapping[str, Sequence[str]],
) -> None:
    """Refuse pages of which more is set aside than is allowed.

    `rows` are, by stream, the pages of all rows that were made: where records are split there are
    more of these than records, and the allowance is of what there is more of.

    Raises: `PagesOverflow` with all of these pages.
    """
    if len(rejected) <= SET_ASIDE_MAX:
        return
    counted = Counter((one.stream, one.cursor) for one in rejected)
    made = {name: Counter[str | None](cursors) for name, cursors in rows.items()}
    pages = {str(page.node): page for page in batch}
    over: dict[bytes, Unintelligible] = {}
    for (stream, cursor), count in counted.items():
        page = pages.get(cursor or "")
        if page is None:
            continue
        total = of_page(page, stream, rows=made.get(stream, Counter())[cursor])
        if count > allowance(total):
            first = next(one for one in rejected if (one.stream, one.cursor) == (stream, cursor))
            over[page.node.key] = overflow(where, page, first, f"{count} of {total}")
    if over:
        raise PagesOverflow(over)


def of_page(page: Walked, stream: str, *, rows: int) -> int:
    """Return how many records of a stream a page held, or rows that were made of them, if more."""
    return max(page.page.counts.get(stream, 0), rows)


def overflow(where: str, page: Walked, first: Rejected, count: str) -> Unintelligible:
    """Make the error of a page that is over its allowance."""
    return Unintelligible(
        f"{where} {page.node}",
        f"{count} records of {first.stream} would be set aside, the first one because "
        f"({first.reason}) {first.message}",
        "see whether the API has changed; nothing of this page is written",
    )
