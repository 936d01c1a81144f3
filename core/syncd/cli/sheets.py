"""Sheets of accounts, as spreadsheets write them: CSV in UTF-8. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from syncd.config.values import did_you_mean

NAME: Final = "name"
SEPARATORS: Final = (",", ";", "\t")  # the second where a comma stands in numbers


@attrs.frozen
class Bad:
    """Something that is wrong in a sheet. `column` is empty where it is all of the line."""

    line: int
    column: str
    what: str
    account: str = ""

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column else ""
        account = f" ({self.account})" if self.account else ""
        return f"line {self.line}{column}{account}: {self.what}"


@attrs.frozen
class Line:
    """One account of a sheet: its settings as text, without those whose cells are empty."""

    number: int
    name: str
    texts: dict[str, str] = attrs.field(repr=False)  # may hold secrets


@attrs.frozen
class Sheet:
    """What a sheet says, and what is wrong with it."""

    lines: Sequence[Line]
    bad: Sequence[Bad]


def read(data: bytes, *, known: Sequence[str], required: Sequence[str] = ()) -> Sheet:
    """Read a sheet whose first line names the columns: the account's name, and settings' keys.

    Spaces around a cell count for nothing, empty lines are passed over; a mark of the byte order,
    either end of lines, and any of `SEPARATORS` will do.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Sheet((), (Bad(line, "", 'not UTF-8; save the sheet as "CSV UTF-8"'),))
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = _rows(reader)
    try:
        number, header = next(rows, (1, []))
        bad = list(_wrong_columns(number, header, known, required))
        if bad:
            return Sheet((), bad)
        return _lines(header, rows)
    except csv.Error as error:
        return Sheet((), (Bad(reader.line_num, "", f"no CSV: {error}"),))


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield rows that hold something, each with the number of its (last) line."""
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield reader.line_num, cells  # type: ignore[attr-defined]  # of csv's own reader


def _wrong_columns(
    number: int, header: Sequence[str], known: Sequence[str], required: Sequence[str]
) -> Iterator[Bad]:
    wanted = (NAME, *known)
    if not header:
        yield Bad(number, "", f"empty; wanted a line with the columns {', '.join(wanted)}")
        return
    for place, column in enumerate(header):
        if not column:
            yield Bad(number, "", f"the column in place {place + 1} has no name")
        elif column not in wanted:
            near = did_you_mean(column, wanted)
            yield Bad(number, column, f"no such setting; there: {', '.join(wanted)}{near}")
        elif column in header[:place]:
            yield Bad(number, column, "it stands there twice")
    for column in (NAME, *required):
        if column not in header:
            yield Bad(number, column, "missing")


def _lines(header: Sequence[str], rows: Iterator[tuple[int, list[str]]]) -> Sheet:
    lines: list[Line] = []
    bad: list[Bad] = []
    first: dict[str, int] = {}  # by name in lower case
    for number, cells in rows:
        if len(cells) != len(header):
            what = f"{len(cells)} cells, where the first line has {len(header)}"
            bad.append(Bad(number, "", what))
            continue
        texts = {column: cell for column, cell in zip(header, cells, strict=True) if cell}
        name = texts.pop(NAME, "")
        before = first.setdefault(name.lower(), number)
        if not name:
            bad.append(Bad(number, NAME, "missing"))
        elif before != number:
            what = f"line {before} has this name, in whatever case"
            bad.append(Bad(number, NAME, what, name))
        else:
            lines.append(Line(number, name, texts))
    return Sheet(lines, bad)
