"""What plugins answer with, looked at before it is used: what does not fit is named. Pure.

A type is checked here where a wrong one would be met far from its plugin's border, and end the
process of everybody, or be stored and mean something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import attrs
import msgspec

from syncd.errors import PluginError, is_wait, sayable
from syncd.model import (
    Credential,
    Cursor,
    CursorKind,
    Delivered,
    EffectKind,
    Later,
    Page,
    Record,
    Retry,
    RouteAnswer,
    Secret,
    Slice,
    Written,
)
from syncd.model.configured import Covers
from syncd.nodes import SAID_CHARS, canonical

CURSOR_MAX_BYTES = 8 * 1024
OPENS_MAX = 100_000  # cursors one page may name

SLICE_NAME_MAX_BYTES = 512  # it stands in keys of the control tables, whose indexes take 2.7 kB
SLICE_SETTINGS_MAX_BYTES = 64 * 1024  # as JSON; they are read with each look for work

_INTEGER_MAX, _VERSION_MIN, _VERSION_MAX = 2**31 - 1, -(2**63), 2**63 - 1  # as columns hold them
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # in JSON, where a backslash before it is one
_BYTES = (msgspec.Raw, bytes)
_KINDS = frozenset(get_args(CursorKind))
_COVERS = frozenset(get_args(Covers))
_MEND = "mend the plugin"
_NO_JSON = (msgspec.MsgspecError, TypeError, ValueError, RecursionError)


# --- Pages ----------------------------------------------------------------------------------------


def refuse_unfit_page(page: Page, streams: frozenset[str], where: str) -> None:
    """Refuse a page that is not made as pages are, or holds records of other streams.

    Raises: `PluginError`; records would vanish without a word otherwise.
    """
    fault = _fault_of_records(page.records, streams) or _fault_of_page(page)
    if fault is not None:
        raise PluginError(where, sayable(f"a page {fault}"), _MEND)
    refuse_unfit_cursors(page.opens, where)


def _fault_of_records(records: Any, streams: frozenset[str]) -> str | None:
    if not isinstance(records, Mapping):
        return f"has {_kind(records)} for its records, not lists by stream"
    for name, items in records.items():
        if name not in streams:
            return f"holds records of unknown streams [{name!r}]"
        if not isinstance(items, Sequence) or isinstance(items, str | bytes):
            return f"has {_kind(items)} for the records of {name}, not a list"
        if not all(map(_is_fit, items)):
            return f"has a record of {name} without bytes, or whose parent is no mapping"
    return None


def _is_fit(item: Any) -> bool:
    if not isinstance(item, Record):
        return True  # a finished object: what it lacks is found when its row is made
    parent = item.parent
    whole = type(parent) is dict or isinstance(parent, Mapping)  # the first is ten times as fast
    return whole and isinstance(item.raw, _BYTES)


def _fault_of_page(page: Any) -> str | None:
    if not isinstance(page.opens, Sequence) or isinstance(page.opens, str | bytes):
        return f"opens {_kind(page.opens)}, not cursors"
    if len(page.opens) > OPENS_MAX:
        return f"opens {len(page.opens)} cursors, more than {OPENS_MAX}"
    if not isinstance(page.end, bool):
        return f"says of its end {_kind(page.end)}, not true or false"
    if page.total is not None and not _is_whole(page.total):
        return f"has {_kind(page.total)} for its total, not a whole number"
    if page.date is not None and not is_moment(page.date):
        return "has a date that is no moment of a time zone"
    return None


def refuse_unfit_written(done: Written, where: str, what: str) -> None:
    """Refuse what became of rows where that is no number of rows.

    Raises: `PluginError`.
    """
    for name, count in done.counts.items():
        if not _is_whole(count, 0, 2**53):
            raise PluginError(where, f"{what} answered with {name} {count!r:.40}", _MEND)


def refuse_unfit_answer(answer: RouteAnswer, streams: frozenset[str], where: str) -> None:
    """Refuse what a route's handler answered with, before anything of it is used.

    Raises: `PluginError`.
    """
    if not _is_whole(answer.status, 200, 599):
        raise PluginError(where, f"its handler answered {answer.status!r:.40}", _MEND)
    fault = _fault_of_records(answer.records, streams)
    if fault is not None:
        raise PluginError(where, sayable(f"its handler's answer {fault}"), _MEND)
    texts = {"event_id": answer.event_id or "", "account": answer.account}
    for name, text in texts.items():
        if not _is_text(text):
            raise PluginError(where, f"its handler's {name} is no text that can be kept", _MEND)


# --- Cursors --------------------------------------------------------------------------------------


def refuse_unfit_cursors(cursors: Iterable[Cursor], where: str) -> None:
    """Refuse cursors that the frontier cannot keep.

    Raises: `PluginError`.
    """
    for cursor in cursors:
        if (fault := _fault_of_cursor(cursor)) is not None:
            raise PluginError(where, sayable(f"a cursor {fault}"), _MEND)


def _fault_of_cursor(cursor: Any) -> str | None:
    if not isinstance(cursor, Cursor):
        return f"is {_kind(cursor)}"
    number, version = cursor.number, cursor.version
    if number is not None and not _is_whole(number, 0, _INTEGER_MAX):
        return f"has a number that no page has: {number!r:.40}"
    if version is not None and not _is_whole(version, _VERSION_MIN, _VERSION_MAX):
        return f"has a version that is no number of 64 bits: {version!r:.40}"
    if cursor.kind not in _KINDS:
        return f"is of no kind: {cursor.kind!r:.40}"
    try:
        said = canonical(cursor)
    except _NO_JSON as error:
        return f"is no JSON: {error}"
    if len(said) > CURSOR_MAX_BYTES:
        return f"is larger than {CURSOR_MAX_BYTES} bytes"
    if _NUL.search(said):
        return f"holds NUL, which jsonb has not: {said[:SAID_CHARS].decode(errors='replace')}"
    return None


def _is_whole(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


# --- Answers of other APIs ------------------------------------------------------------------------


def refuse_unfit_later(later: Later, where: str, what: str) -> None:
    """Refuse to answer later for a reason that is no text, or after a wait that is none.

    Raises: `PluginError`.
    """
    if not isinstance(later.reason, str) or not _may_wait(later.seconds):
        said = f"{what} answered later, with an unfit reason or wait: {later.seconds!r:.40}"
        raise PluginError(where, said, _MEND)


def refuse_unfit_outcome(outcome: Any, where: str) -> None:
    """Let only outcomes pass whose reasons are text, and whose waits are seconds.

    Raises: `PluginError`.
    """
    if isinstance(outcome, Delivered):
        return
    fits = {"reason": isinstance(outcome.reason, str)}
    if isinstance(outcome, Retry):
        fits["seconds"] = _may_wait(outcome.seconds)
        fits["counts"] = isinstance(outcome.counts, bool)
    unfit = next((name for name, is_fit in fits.items() if not is_fit), None)
    if unfit is not None:
        said = f"deliver answered {_kind(outcome)} with an unfit {unfit!r}: {outcome!r:.200}"
        raise PluginError(where, said, _MEND)


def _may_wait(seconds: Any) -> bool:
    return seconds is None or is_wait(seconds)


def fault_of_kind(kind: EffectKind) -> str | None:
    """Say why effects of a kind could not be delivered as it is declared."""
    for name in ("bulk_max", "concurrency", "attempts_max"):
        if not _is_whole(value := getattr(kind, name), 1, _INTEGER_MAX):
            return f"{name} is {value!r:.40}, no whole number above zero"
    for name in ("age_max_seconds", "deadline_seconds"):
        if not is_wait(value := getattr(kind, name)) or not value:
            return f"{name} is {value!r:.40}, no seconds above zero"
    for name in ("ordered", "skip_dead"):
        if not isinstance(value := getattr(kind, name), bool):
            return f"{name} is {value!r:.40}, not true or false"
    return None


# --- Credentials ----------------------------------------------------------------------------------


def sealable(credential: Credential, before: Credential, where: str) -> Credential:
    """Return a credential that can be sealed and read again.

    Its tokens are the only key there is: an odd moment counts as one that nobody told, and in place
    of odd details stand those of the one `before`.

    Raises: `PluginError` where its tokens are none.
    """
    for name in ("access_token", "refresh_token"):
        token = getattr(credential, name)
        fits = isinstance(token, Secret) and _is_text(token.reveal())
        if not fits and (token is not None or name == "access_token"):
            raise PluginError(where, f"refresh answered with no Secret for its {name}", _MEND)
    details: Any = credential.details
    told = isinstance(details, Mapping) and all(
        _is_text(each) for pair in details.items() for each in pair
    )
    return attrs.evolve(
        credential,
        access_expires_at=_moment(credential.access_expires_at),
        refresh_expires_at=_moment(credential.refresh_expires_at),
        details=details if told else before.details,
    )


def _is_text(value: Any) -> bool:
    """Say whether this is a text that UTF-8 has."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def is_moment(value: Any) -> bool:
    """Say whether this is a date and a time of a time zone."""
    return isinstance(value, datetime) and value.tzinfo is not None


def _moment(value: Any) -> datetime | None:
    try:
        return value.astimezone(UTC) if is_moment(value) else None
    except OverflowError:
        return None


# --- Slices ---------------------------------------------------------------------------------------


def distinct(slices: Sequence[Slice], where: str) -> list[Slice]:
    """Return slices, each once.

    Raises: `PluginError` for one that the control tables cannot hold, and for two of one name.
    """
    known: dict[str, Slice] = {}
    for each in slices:
        if (fault := _fault_of_slice(each)) is not None:
            raise PluginError(where, sayable(f"slice {each.name!r:.80}: {fault}"), _MEND)
        if known.setdefault(each.name, each) != each:
            raise PluginError(where, f"there are two slices {each.name!r}, and they differ", _MEND)
    return list(known.values())


def _fault_of_slice(each: Any) -> str | None:
    if not isinstance(each.name, str):
        return f"its name is {_kind(each.name)}, not a text"
    if each.name != sayable(each.name):
        return "its name holds what no database keeps"
    if len(each.name.encode()) > SLICE_NAME_MAX_BYTES:
        return f"its name is longer than {SLICE_NAME_MAX_BYTES} bytes"
    if not _is_whole(each.priority, -_INTEGER_MAX, _INTEGER_MAX):
        return f"its priority is no number of seconds: {each.priority!r:.40}"
    if each.covers not in _COVERS:
        return f"it covers {each.covers!r:.40}, not all, a share or a part"
    if not isinstance(each.settings, Mapping):
        return f"its settings are {_kind(each.settings)}, not names and values"
    try:
        said = msgspec.json.encode(dict(each.settings))
    except _NO_JSON as error:
        return f"its settings are no JSON: {error}"
    if len(said) > SLICE_SETTINGS_MAX_BYTES:
        return f"its settings are larger than {SLICE_SETTINGS_MAX_BYTES} bytes"
    return "its settings hold NUL, which jsonb has not" if _NUL.search(said) else None


def _kind(value: Any) -> str:
    return type(value).__name__
