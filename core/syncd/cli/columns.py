"""Tables of plain text, for terminals and pipes alike. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from syncd.cli import wording

_GAP = "  "


def table(
    headings: Sequence[str], rows: Sequence[Sequence[Any]], *, width: int | None = None
) -> str:
    """Write a table: numbers to the right, the rest to the left.

    Where its lines are longer than `width` characters, each row is written as a block of
    ``heading: value`` lines.
    """
    texts = [[wording.plain(value) for value in row] for row in rows]
    widths = [
        max(len(heading), *(len(row[n]) for row in texts), 0) for n, heading in enumerate(headings)
    ]
    right = [any(_is_number(row[n]) for row in rows) for n in range(len(headings))]
    lines = [_line(each, widths, right) for each in ([*headings], *texts)]
    if width is not None and max(map(len, lines)) > width:
        return _blocks(headings, texts)
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_the_right else cell.ljust(width)
        for cell, width, to_the_right in zip(cells, widths, right, strict=True)
    )
    return _GAP.join(padded).rstrip()


def _blocks(headings: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    name = max(map(len, headings))
    blocks = [
        "\n".join(f"{h.ljust(name)}  {v}" for h, v in zip(headings, row, strict=True) if v)
        for row in texts
    ]
    return "\n\n".join(blocks)
