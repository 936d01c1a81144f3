"""The board as a table that rich can draw. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from syncd.cli import wording
from syncd.cli.board import Board, Row, shown

HEADINGS = ("partition", "", "", "", "records", "records/s", "left", "in flight", "throttled")
_TEXTS = 3  # the first columns; the others are numbers
BAR_CHARACTERS = 20  # narrow enough for a line of 100 characters with everything in it


def cells(row: Row) -> tuple[str, ...]:
    """Return what the table says about one partition; empty where nobody knows it."""
    records = wording.count(row.processed)
    if row.total is not None and not row.ended:
        records = f"{records} of {wording.count(row.total)}"
    return (
        row.placed or row.partition,
        row.state,
        "" if row.percent is None else f"{row.percent:.0f} %",
        records,
        wording.rate(row.rate),
        "" if row.eta_seconds is None else wording.seconds(row.eta_seconds),
        str(row.in_flight) if row.running else "",
        wording.seconds(row.throttled_seconds) if row.throttled_seconds else "",
    )


def drawn(board: Board, *, rows_max: int) -> RenderableType:
    """Draw the board with at most so many partitions."""
    rows, left_out = shown(board, most=rows_max)
    parts: list[RenderableType] = [_table(rows)] if rows else []
    if left_out:
        parts.append(Text(f"and {wording.counted(left_out, 'more partition')}", style="dim"))
    parts += [Text(f"effects of kind {each.said}") for each in board.effects.values()]
    if board.drain is not None:
        parts.append(Text(wording.drain(board.drain), style="yellow"))
    return Group(*parts)


def _table(rows: Sequence[Row]) -> Table:
    table = Table.grid(padding=(0, 2))
    for number, _ in enumerate(HEADINGS):
        table.add_column(justify="left" if number < _TEXTS else "right", no_wrap=True)
    table.add_row(*(Text(heading, style="dim") for heading in HEADINGS))
    for row in rows:
        partition, state, *numbers = cells(row)
        table.add_row(
            Text(partition, style="bold"), Text(state, style=_style(row)), _bar(row), *numbers
        )
    return table


def _style(row: Row) -> str:
    if row.state in {"failed", "parked", "lost"}:
        return "red"
    return "green" if row.state == "complete" else "cyan"


def _bar(row: Row) -> RenderableType:
    if row.percent is None:
        return Text("")
    return ProgressBar(total=100.0, completed=row.percent, width=BAR_CHARACTERS)
