"""The registry's API: its requests and pages. Pure.

Facts (the NPI registry's API help, and the recorded answers of its users): at most 200 rows a page
and `skip` up to 1,000, so that a search ends after 1,200 rows; `result_count` counts the rows of
this answer, and nothing tells how many there are. An error comes with status 200, as ``{"Errors":
[..]}`` without `results`; so does a page of HTML or XML while the registry is being maintained. A
good search is answered as if it had found nothing, now and then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

import syncd
from syncd import (
    Cursor,
    Page,
    Record,
    Response,
    SourceError,
    Throttled,
    Unavailable,
    Unintelligible,
)
from syncd_nppes.narrowing import Criteria, Glimpse, dimension, is_found, parts

VERSION = "2.1"
LIMIT_MAX = 200
SKIP_MAX = 1000

PATH = "/"
BLOCKED_SECONDS = 60.0  # without a Retry-After; the registry names no limit, nor how long it blocks
BLOCKED_MAX_SECONDS = 3600.0

Rest: TypeAlias = Literal["seen", "always", "never"]
Kind: TypeAlias = Literal["page", "rest", "too many"]


# --- Cursors --------------------------------------------------------------------------------------


@attrs.frozen
class Ask:
    """What a cursor stands for.

    `narrowed`: what is asked beside the slice's own search. ``"page"``: rows from `skip` on; a full
    page opens up to `ahead` further ones. ``"rest"``: whether what `narrowed` finds but its parts
    do not is more than fits. ``"too many"``: it is, and nothing is left to split it by.
    """

    narrowed: Criteria = attrs.field(factory=dict)
    skip: int = 0
    ahead: int = 1
    by_names: bool = False
    kind: Kind = "page"

    @classmethod
    def of(cls, value: Any) -> Ask:
        """Read a cursor's value."""
        return cls(**value) if isinstance(value, dict) else cls()

    def cursor(self, *, leads_on: bool = False) -> Cursor:
        """Return the cursor; what fails alone is an item."""
        value = {k: v for k, v in attrs.asdict(self).items() if v != _DEFAULTS[k]}
        return Cursor(value, kind="chain" if leads_on else "item")


_DEFAULTS = attrs.asdict(Ask())


def last_skip(limit: int) -> int:
    """Return where the last page begins that a search hands out."""
    return SKIP_MAX - SKIP_MAX % limit


def first_cursors(*, limit: int, ahead: int, expected: int | None) -> tuple[Cursor, ...]:
    """Return the cursors of the pages that are asked for at once.

    Of a search that was walked before, as many as held its rows; of one that was not, as many as
    may be in flight, `ahead`: with one alone the others would wait for nothing.
    """
    pages = ahead if expected is None else -(-expected // limit)
    beyond = ahead if expected is None else 1
    last = min(max(pages, 1) * limit, last_skip(limit) + limit)
    return tuple(
        Ask(skip=skip, ahead=beyond).cursor(leads_on=not skip) for skip in range(0, last, limit)
    )


# --- Requests and answers -------------------------------------------------------------------------


def params(criteria: Criteria, *, limit: int, skip: int) -> dict[str, str | int]:
    """Return the parameters of one page of a search."""
    paging: dict[str, str | int] = {"version": VERSION, "limit": limit}
    return paging | dict(criteria) | ({"skip": skip} if skip else {})


def described(criteria: Criteria) -> str:
    """Name a search, for messages."""
    return ", ".join(
        value if name in _PLAIN else f"{name} {value}" for name, value in criteria.items()
    )


_PLAIN = {"taxonomy_description", "city", "state", "enumeration_type"}


class _Error(msgspec.Struct):
    description: str = ""
    field: str = ""
    number: int | str = ""


class _Answer(msgspec.Struct):
    results: list[msgspec.Raw] | None = None
    Errors: list[_Error] | None = None


def rows_of(response: Response, criteria: Criteria) -> list[msgspec.Raw]:
    """Read an answer's rows.

    Raises: `Unintelligible`, naming the search, for what the registry refuses, and for what is no
        answer: nothing that lacks `results` is an empty one.
    """
    where = f"search {described(criteria)}"
    answer = syncd.decode(response, _Answer, where=where)
    if answer.Errors:
        said = "; ".join(f"{e.number} {e.description} ({e.field})" for e in answer.Errors)
        raise Unintelligible(where, f"the registry refuses it: {said}", "correct the search")
    if answer.results is None:
        raise Unintelligible(where, "the answer has no `results`", "it is asked for again")
    return answer.results


def judge(response: Response) -> SourceError | None:
    """Find what is no answer, by its media type before its body.

    There is no credential that could be refused: whoever gets a 401 or 403 is kept out for a while.
    """
    if response.status in {401, 403}:
        said, seconds = f"keeps us out ({response.status})", _asked_seconds(response)
        return Throttled("nppes", said, "it is asked again later", retry_after_seconds=seconds)
    if not 200 <= response.status < 300:
        return None
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media.endswith("json") or response.content.lstrip()[:1] == b"<":
        said = f"answered with {media or 'no media type'} in place of data, as in maintenance"
        return Unavailable("nppes", said, "it is asked again")
    return None


def _asked_seconds(response: Response) -> float:
    told = response.headers.get("retry-after", "").strip()
    if told.isascii() and told.isdecimal():
        return min(float(told), BLOCKED_MAX_SECONDS)
    try:
        moment = parsedate_to_datetime(told)
        return min(response.seconds_until(moment), BLOCKED_MAX_SECONDS)
    except (ValueError, TypeError):  # TypeError: it names no zone
        return BLOCKED_SECONDS


# --- Pages ----------------------------------------------------------------------------------------


def page_of(
    rows: Sequence[msgspec.Raw],
    ask: Ask,
    search: Criteria,
    *,
    limit: int,
    rest: Rest,
    response: Response,
) -> Page:
    """Make a page of an answer's rows: with what is to be asked next."""
    opens = openings(rows, ask, search, limit=limit, rest=rest)
    return Page({"providers": [Record(row) for row in rows]}, opens, date=response.date)


def openings(
    rows: Sequence[msgspec.Raw], ask: Ask, search: Criteria, *, limit: int, rest: Rest
) -> tuple[Cursor, ...]:
    """Return what a page opens: nothing where it is not full, for then nothing follows.

    The last page that is handed out opens the parts of its search where it is full, since nobody
    knows then what was left out.
    """
    if len(rows) < limit:
        return ()
    criteria = {**search, **ask.narrowed}
    if ask.kind == "rest":
        return _split_rest(ask, criteria, search)
    has_rest = rest != "never" and _shows_rest(rows, ask, criteria)
    if ask.skip < last_skip(limit):
        last = min(ask.skip + ask.ahead * limit, last_skip(limit))
        following = range(ask.skip + limit, last + 1, limit)
        pages = [attrs.evolve(ask, skip=skip).cursor() for skip in following]
        return (*pages, _rest_of(ask)) if has_rest else tuple(pages)
    always = rest == "always" and "postal_code" not in criteria and not ask.by_names
    split = _split(ask, criteria, search)
    return split + (_split_rest(ask, criteria, search) if has_rest or always else ())


def _shows_rest(rows: Sequence[msgspec.Raw], ask: Ask, criteria: Criteria) -> bool:
    """Return whether a page holds a provider that the parts of its search do not find."""
    return not all(is_found(criteria, _glimpse(row), by_names=ask.by_names) for row in rows)


_glimpses = msgspec.json.Decoder(Glimpse)


def _glimpse(row: msgspec.Raw) -> Glimpse:
    try:
        return _glimpses.decode(row)
    except (msgspec.DecodeError, UnicodeDecodeError):  # it is set aside when its row is made
        return Glimpse()


def _rest_of(ask: Ask) -> Cursor:
    return Ask(narrowed=ask.narrowed, by_names=ask.by_names, kind="rest").cursor()


def _split(ask: Ask, criteria: Criteria, search: Criteria) -> tuple[Cursor, ...]:
    found = parts(criteria, by_names=ask.by_names)
    if not found:
        return (_too_many(ask),)
    return tuple(_part(each, search, by_names=ask.by_names) for each in found)


def _split_rest(ask: Ask, criteria: Criteria, search: Criteria) -> tuple[Cursor, ...]:
    """Split by names what a split by postal codes leaves over; nothing finds what names leave."""
    if dimension(criteria, by_names=ask.by_names) != "postal code":
        return (_too_many(ask),)
    return _split(attrs.evolve(ask, by_names=True), criteria, search)


def _part(criteria: Criteria, search: Criteria, *, by_names: bool) -> Cursor:
    narrowed = {name: value for name, value in criteria.items() if search.get(name) != value}
    return Ask(narrowed=narrowed, by_names=by_names).cursor()


def _too_many(ask: Ask) -> Cursor:
    return Ask(narrowed=ask.narrowed, by_names=ask.by_names, kind="too many").cursor()


def too_many(criteria: Mapping[str, str]) -> Unintelligible:
    """Return the error of a search that cannot be split any more, and finds more than is told.

    Its cursor becomes debt: it is listed, its pass ends partial, and the next one asks again.
    """
    return Unintelligible(
        f"search {described(criteria)}",
        f"it finds more than {SKIP_MAX + LIMIT_MAX} providers, of which these are the first, and "
        "nothing is left to split it by",
        "name narrower searches",
    )
