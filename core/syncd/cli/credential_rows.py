"""A file of credentials, row by row: each is good, or is said to be what it is not. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from syncd.model import Credential, Secret

FILE_MAX_BYTES = 64 * 2**20
TOKEN_CHARACTERS_MAX = 16 * 2**10  # what a server takes in a header field is less
_NAMED_MAX = 3  # of several alike, in one message

_OWN = ("account", "access_token", "refresh_token", "access_expires_at", "refresh_expires_at")
_NEEDED = ("account", "access_token")
_TOKEN = re.compile(r"[!-~]+")  # RFC 6750, Appendix A: VSCHAR, and no blank in a header field
_UNIX = re.compile(r"\d{1,11}(\.\d+)?")
_YEARS = range(2000, 2200)  # of a moment that is none of a mistyped unit


@attrs.frozen
class Rows:
    """What a file holds, by account, and what is wrong with it: the one or the other is used."""

    credentials: Mapping[str, Credential]
    problems: Sequence[str]


class _Wrong(Exception):
    """What a row says is not as it must be."""


def read_rows(content: bytes, *, known: Collection[str]) -> Rows:
    """Read a file; `known` are the accounts that there are.

    A byte order mark, CRLF, and `;` between columns (as office programs write it) are taken as
    they come. No message holds a value of a token's column.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return Rows({}, [f"line {line}: is no UTF-8"])
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return _read(reader, known)
    except csv.Error as error:
        return Rows({}, [f"line {reader.line_num}: is no CSV: {error}"])


def _read(reader: Any, known: Collection[str]) -> Rows:
    columns = [name.strip().lower() for name in next(reader, [])]
    if problems := _wrong_columns(columns):
        return Rows({}, problems)
    found: dict[str, Credential] = {}
    lines: dict[str, int] = {}
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = reader.line_num
        try:
            if len(cells) != len(columns):
                raise _Wrong(f"has {len(cells)} columns, where the first line has {len(columns)}")
            row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
            account = _account(row["account"], known, lines)
            lines[account] = line
            found[account] = _credential(row)
        except _Wrong as wrong:
            named = cells[columns.index("account")].strip() if len(cells) == len(columns) else ""
            problems.append(f"line {line}{f' ({named!r})' if named else ''}: {wrong}")
    if not found and not problems:
        problems.append("there is no row below the first line")
    return Rows({} if problems else found, problems)


def _wrong_columns(columns: Sequence[str]) -> list[str]:
    missing = [name for name in _NEEDED if name not in columns]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    problems = []
    if missing:
        there = ", ".join(columns) if any(columns) else "nothing"
        problems.append(f"line 1: no column {' and no column '.join(missing)}; there: {there}")
    if twice:
        problems.append(f"line 1: twice: {', '.join(twice[:_NAMED_MAX])}")
    if "" in columns and not missing:
        problems.append("line 1: a column has no name")
    return problems


def _account(name: str, known: Collection[str], lines: Mapping[str, int]) -> str:
    if not name:
        raise _Wrong("account is empty")
    if name in lines:
        raise _Wrong(f"stands in line {lines[name]} already")
    if name not in known:
        raise _Wrong("there is no such account; add it first, in the configuration")
    return name


def _credential(row: Mapping[str, str]) -> Credential:
    refresh = _token(row, "refresh_token") if row.get("refresh_token") else None
    if refresh is None and row.get("refresh_expires_at"):
        raise _Wrong("has refresh_expires_at, and no refresh_token")
    return Credential(
        _token(row, "access_token"),
        refresh,
        _moment(row, "access_expires_at"),
        _moment(row, "refresh_expires_at"),
        {name: text for name, text in row.items() if name not in _OWN and text},
    )


def _token(row: Mapping[str, str], column: str) -> Secret:
    text = row[column]
    if not text:
        raise _Wrong(f"{column} is empty")
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise _Wrong(f"{column} has {len(text)} characters, over {TOKEN_CHARACTERS_MAX}")
    if not _TOKEN.fullmatch(text):
        raise _Wrong(f"{column} holds a blank, or a character that is not visible ASCII")
    return Secret(text)


def _moment(row: Mapping[str, str], column: str) -> datetime | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        unix = _UNIX.fullmatch(text)
        found = datetime.fromtimestamp(float(text), UTC) if unix else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        said = f"{column} {text[:40]!r}, wanted ISO 8601 (2027-03-01T12:00:00Z) or unix seconds"
        raise _Wrong(said) from None
    if found.tzinfo is None:
        raise _Wrong(f"{column} {text!r} names no zone; add Z for UTC")
    if found.year not in _YEARS:
        raise _Wrong(f"{column} {text!r} is in the year {found.year}; are these seconds?")
    return found.astimezone(UTC)
