"""What a request asks of the simulated upstream, and the page that answers it.

Paging is Laravel's: `links.next` decides, null ends; no totals unless `simple_paginate=0`; past the
end an empty page with status 200. What no public source tells is marked as a guess.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import msgspec

from syncd_cars.inventory import Inventory, Slice

PER_PAGE_MAX = 1000
MINUTES_MAX = 4320  # 72 hours: how far back the upstream answers what changed

_PER_PAGE_DEFAULT = 15  # a guess: Laravel's own default (Eloquent, "Pagination")
_DIGITS_MAX = 18  # more than any id or page has, and less than what Python refuses to read

_PARAMETERS = {
    "/cars": {"page", "per_page", "minutes", "manufacturer_id", "simple_paginate"},
    "/archived-lots": {"page", "per_page", "minutes", "simple_paginate"},
    "/manufacturers/cars": {"page", "per_page", "simple_paginate"},
}


class Question(msgspec.Struct, frozen=True):
    """What one request asks for. `query` are its parameters other than `page`, as they came."""

    path: str
    page: int = 1
    per_page: int = _PER_PAGE_DEFAULT
    minutes: int | None = None
    manufacturer_ids: frozenset[int] | None = None
    totals: bool = False
    query: tuple[tuple[str, str], ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """A request that is not answered with a page: a status and Laravel's kind of message."""

    status: int
    message: str
    errors: dict[str, list[str]] = {}

    def body(self) -> bytes:
        """Encode what the client gets to read."""
        details = {"errors": self.errors} if self.errors else {}
        return msgspec.json.encode({"message": self.message} | details)


NOT_FOUND = Refusal(404, "Not Found")
METHOD_NOT_ALLOWED = Refusal(405, "Method Not Allowed")
UNAUTHENTICATED = Refusal(401, "Unauthenticated.")  # a guess: Laravel's own wording
TOO_MANY_REQUESTS = Refusal(429, "Too Many Attempts.")  # a guess: Laravel's own wording


def understand(path: str, query_string: str) -> Question | Refusal:
    """Read a request; out of bounds is 422 with Laravel's body (status and body are a guess).

    A page that is no number from 1 is page 1, as in Laravel. A filter which the upstream has and
    this stand-in has not is 501, so that nobody takes an unfiltered answer for a filtered one.
    """
    known = _PARAMETERS.get(path)
    if known is None:
        return NOT_FOUND
    pairs = parse_qsl(query_string, keep_blank_values=True)
    query = dict(pairs)
    strange = sorted(query.keys() - known)
    if strange:
        return Refusal(501, f"The simulator has no parameter {', '.join(strange)} at {path}.")
    bounds = {"per_page": PER_PAGE_MAX, "minutes": MINUTES_MAX}
    given = {name: query[name] for name in bounds if name in query}
    numbers = {name: _number(text, bounds[name]) for name, text in given.items()}
    wrong = [name for name, number in numbers.items() if number is None]
    if wrong:
        return _unprocessable(wrong[0], f"must be a number between 1 and {bounds[wrong[0]]}.")
    brands = _ids(query.get("manufacturer_id"))
    if brands is not None and None in brands:
        return _unprocessable("manufacturer_id", "must be a comma list of numbers.")
    return Question(
        path=path,
        page=_number(query.get("page", ""), None) or 1,
        per_page=numbers.get("per_page") or _PER_PAGE_DEFAULT,
        minutes=numbers.get("minutes"),
        manufacturer_ids=None if brands is None else frozenset(b for b in brands if b is not None),
        totals=query.get("simple_paginate") == "0",
        query=tuple((name, value) for name, value in pairs if name != "page"),
    )


def _number(text: str, highest: int | None) -> int | None:
    """Return the number from 1 to `highest` that `text` is, else None."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX):
        return None
    number = int(text)
    return number if number >= 1 and (highest is None or number <= highest) else None


def _ids(text: str | None) -> list[int | None] | None:
    return None if text is None else [_number(part.strip(), None) for part in text.split(",")]


def _unprocessable(name: str, rule: str) -> Refusal:
    message = f"The {name.replace('_', ' ')} {rule}"
    return Refusal(422, message, {name: [message]})


def rows_for(question: Question, inventory: Inventory) -> Slice:
    """Look up the rows that `question` asks for."""
    start, count = (question.page - 1) * question.per_page, question.per_page
    match question.path:
        case "/cars":
            return inventory.slice_of_cars(
                start, count, minutes=question.minutes, brands=question.manufacturer_ids
            )
        case "/archived-lots":
            return inventory.slice_of_archived_lots(start, count, minutes=question.minutes)
        case _:
            rows = inventory.manufacturers()
            chosen = rows[start : start + count]
            joined = b",".join(msgspec.json.encode(row) for row in chosen)
            return Slice(rows=joined, count=len(chosen), total=len(rows))


def page_of(question: Question, rows: Slice, *, public_url: str, next_keeps_query: bool) -> bytes:
    """Write `rows` as Laravel's page.

    Links begin with `public_url`. `next_keeps_query` tells whether they repeat the other parameters
    (`per_page`, `minutes`): the public sample shows a bare `?page=2`, so a careful client builds
    its own.
    """
    page, per_page = question.page, question.per_page
    path = public_url + question.path
    first = (page - 1) * per_page + 1
    last_page = max(-(-rows.total // per_page), 1)
    kept = question.query if next_keeps_query else ()

    def link(number: int) -> str:
        return f"{path}?{urlencode([*kept, ('page', str(number))])}"

    links = {
        "first": link(1),
        "last": link(last_page) if question.totals else None,
        "prev": link(page - 1) if page > 1 else None,
        "next": link(page + 1) if page < last_page else None,
    }
    meta: dict[str, int | str | None] = {
        "current_page": page,
        "from": first if rows.count else None,
        "path": path,
        "per_page": per_page,
        "to": first + rows.count - 1 if rows.count else None,
    }
    if question.totals:
        meta |= {"last_page": last_page, "total": rows.total}
    tail = msgspec.json.encode({"links": links, "meta": meta})
    return b"".join((b'{"data":[', rows.rows, b"],", tail[1:]))
