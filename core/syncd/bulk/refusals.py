"""Whose fault a failed write is, and which rows and columns can be named without the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from syncd.bulk.batch import Candidate, staged_values
from syncd.bulk.kinds import Kind
from syncd.bulk.staging import UNSENDABLE, dumper_of
from syncd.sqlstates import reaction


def blames_a_row(error: psycopg.Error) -> bool:
    """Say whether an error is about what a row holds: all others are the caller's business.

    The one table of these decisions is `sqlstates`.
    """
    return reaction(error.sqlstate) == "record"


def refusal(error: psycopg.Error) -> str:
    """Answer SQLSTATE and primary message: the detail would repeat the row's values."""
    return f"{error.sqlstate}: {error.diag.message_primary}"


def examined(
    cursor: psycopg.Cursor[Any], stage: Sequence[tuple[str, Kind]], among: Sequence[Candidate]
) -> tuple[list[Candidate], list[tuple[Candidate, str]]]:
    """Tell the rows that can be sent from those that cannot, with the reason; send none."""
    tests = [(name, _test(kind, dumper_of(cursor, kind))) for name, kind in stage[1:]]
    sound: list[Candidate] = []
    unsound: list[tuple[Candidate, str]] = []
    for candidate in among:
        fault = _fault(tests, staged_values(candidate)[: len(tests)])
        if fault is None:
            sound.append(candidate)
        else:
            unsound.append((candidate, fault))
    return sound, unsound


def sendable(
    cursor: psycopg.Cursor[Any],
    stage: Sequence[tuple[str, Kind]],
    rows: Sequence[tuple[Any, ...]],
) -> list[tuple[Any, ...]]:
    """Leave out what cannot be sent."""
    tests = [(name, _test(kind, dumper_of(cursor, kind))) for name, kind in stage]
    return [row for row in rows if _fault(tests, row) is None]


def _test(kind: Kind, dump: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Make the function that raises for a value that cannot be sent."""

    def test(value: Any) -> None:
        sent = kind.encode([value])[0] if kind.encode else value
        if kind.sql == "text" and isinstance(sent, str) and "\0" in sent:
            raise ValueError("text cannot hold the character NUL")
        dump(sent)

    return test


def _fault(tests: Sequence[tuple[str, Callable[[Any], None]]], values: Sequence[Any]) -> str | None:
    for (name, test), value in zip(tests, values, strict=True):
        if value is None:
            continue
        try:
            test(value)
        except UNSENDABLE as error:
            return f"{name}: cannot send this {type(value).__name__}: {error}"
    return None
