"""Front's Core API: its requests and pages. Pure.

Facts (dev.frontapp.com: "Search", "Pagination", "Rate limiting", the description of the Core API):
a page of a search holds 100 conversations at most, those that were last active first; the query
stands in the path. `_pagination.next` is an address at the company's own host, or null at the end;
new mail shifts rows down while pages are read, and what is merged or deleted shifts them up.
Messages come newest first. A conversation that was merged into another answers 301. Times are
seconds with up to three decimals.

Why not `/events`, for what changed: it hands out 15 events a page, several for each conversation,
where a search hands out 100 conversations, each once; forty searches a minute name 4,000 of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

import syncd
from syncd import Cursor, Page, Record, Response, Unintelligible
from syncd_front.records import ID, NOT_READ, id_of, milliseconds_of
from syncd_front.threads import Reading, Thread, encoded

PAGE_MAX = 100  # dev.frontapp.com, "Pagination"
RESOURCE_CALLS = 5  # a second, of one conversation: dev.frontapp.com, "Rate limiting"
ME = "/me"

# Of one conversation: 10,000 messages. What has more is no thread of mail.
MESSAGE_PAGES_MAX = 100

# Of one search in one pass. What is missed by each of them would have to be passed over five times.
WALKS_MAX = 5

_CONVERSATION = re.compile(rf"/conversations/(?P<id>{ID})(?:/messages)?/?\Z")


class _Pagination(msgspec.Struct, gc=False):
    next: str | None = None


class _Results(msgspec.Struct, gc=False):
    results: list[msgspec.Raw] = msgspec.field(name="_results")
    pagination: _Pagination | None = msgspec.field(name="_pagination", default=None)
    total: int | None = msgspec.field(name="_total", default=None)

    @property
    def next(self) -> str | None:
        return (self.pagination.next or None) if self.pagination is not None else None


class _Updated(msgspec.Struct, gc=False):
    updated_at: float | None = None


class _Me(msgspec.Struct, gc=False):
    id: str = ""
    name: str = ""


_updated = msgspec.json.Decoder(_Updated)


# --- Cursors and requests -------------------------------------------------------------------------


def query_of(filters: Iterable[str], *, after: datetime | None) -> str:
    """Return the text of a search: filters, and from when on; a search without a text is none."""
    seconds = 0 if after is None else max(int(after.timestamp()), 0)
    return " ".join([*(each for each in filters if each), f"after:{seconds}"])


def first_cursor(query: str) -> Cursor:
    """Return where a walk of a search begins."""
    return Cursor({"query": query})


def another_walk(value: Any) -> Cursor | None:
    """Return where a search is walked once more; `None` where that was done often enough.

    It fails alone, and is no part of the chain that led to it: that its pages hold what those of
    the walk before held is no circle.
    """
    walk = value.get("walk", 1) + 1
    return (
        Cursor({"query": value["query"], "walk": walk}, kind="item") if walk <= WALKS_MAX else None
    )


def item(conversation_id: str, version: int) -> Cursor:
    """Return the cursor of a conversation's messages; a higher version is a newer state of it."""
    return Cursor({"conversation": conversation_id}, kind="item", version=version)


def merged_item(conversation_id: str, source_id: str) -> Cursor:
    """Return the cursor of a conversation's messages, as it is after another was merged into it.

    It is one of its own, so that the messages are read once more in this pass, whether or not they
    were read before the merge: no version is known to be above that of the search. And it is one
    for each pair: those that lead to each other come to an end.
    """
    return Cursor({"conversation": conversation_id, "source": source_id}, kind="item", version=0)


def search_request(value: Any) -> tuple[str, dict[str, str | int]]:
    """Return the path, or the address, and the parameters of a page of a search."""
    return _request(f"/conversations/search/{quote(value.get('query', ''), safe='')}", value)


def messages_request(conversation_id: str, value: Any) -> tuple[str, dict[str, str | int]]:
    """Return the same for a page of a conversation's messages."""
    return _request(f"/conversations/{quote(conversation_id, safe='')}/messages", value)


def _request(path: str, value: Any) -> tuple[str, dict[str, str | int]]:
    if "next" in value:
        return value["next"], {}
    token = {"page_token": value["page_token"]} if "page_token" in value else {}
    return path, {"limit": PAGE_MAX, **token}


def following(value: Any, link: str, *, where: str, origins: Collection[str]) -> dict[str, Any]:
    """Return what a cursor becomes by a next link.

    The link is followed where its origin is listed: the credential goes there. Of any other, only
    the token of the page is taken, with which the API's own host is asked.

    Raises: `Unintelligible` for a link without such a token, and for one that leads nowhere else.
    """
    parts = urlsplit(link)
    kept = {name: each for name, each in value.items() if name not in {"next", "page_token"}}
    if f"{parts.scheme}://{parts.netloc}" in origins:
        after = {**kept, "next": link}
    else:
        token = parse_qs(parts.query).get("page_token")
        if not token:
            said = "the link to the next page has no page_token"
            raise Unintelligible(where, said, "list its origin in next_origins, if it is Front's")
        after = {**kept, "page_token": token[0]}
    if after == value:
        raise Unintelligible(where, "a page names itself as the next", "it is asked for again")
    return after


# --- Answers --------------------------------------------------------------------------------------


def search_page(response: Response, value: Any, *, origins: Collection[str]) -> Page:
    """Read a page of a search: its conversations, a cursor for each, and the page after it.

    A result that cannot be read is a record as any other, and is set aside as one. Where fewer are
    found than by the page before it, some were merged or deleted meanwhile: as many others may have
    moved up, to pages that were read already, and the search is walked once more.

    Raises: `Unintelligible` where the body is no such page.
    """
    where = "GET /conversations/search"
    answer = syncd.decode(response, _Results, where=where)
    opens = [each for raw in answer.results if (each := _item_of(raw)) is not None]
    before = value.get("total")
    if before is not None and answer.total is not None and answer.total < before:
        again = another_walk(value)
        opens += [again] if again is not None else []
    if (link := answer.next) is not None:
        place = {name: each for name, each in value.items() if name != "total"}
        after = following(place, link, where=where, origins=origins)
        total = {} if answer.total is None else {"total": answer.total}
        opens.append(Cursor({**after, **total}))
    return Page(
        {"conversations": [Record(raw) for raw in answer.results]},
        tuple(opens),
        end=link is None,
        date=response.date,
        total=answer.total,
    )


def _item_of(raw: msgspec.Raw) -> Cursor | None:
    """Return the cursor of a result's messages, `None` where it has no id to ask for them by.

    What is odd about a result sets its record aside (`conversation_of`), and stops no other.
    """
    name = id_of(raw)
    if name is None:
        return None
    try:
        updated_at = _updated.decode(raw).updated_at
    except NOT_READ:
        updated_at = None
    return item(name, milliseconds_of(updated_at) or 0)


def messages_of(
    response: Response, value: Any, reading: Reading, *, origins: Collection[str]
) -> dict[str, Any] | None:
    """Take a page of messages; return what the next page is asked with, `None` at the end.

    Raises: `Unintelligible` where the body is no such page.
    """
    where = "GET /conversations/{id}/messages"
    answer = syncd.decode(response, _Results, where=where)
    reading.take(answer.results, where=where)
    link = None if reading.is_full else answer.next
    return None if link is None else following(value, link, where=where, origins=origins)


def thread_page(thread: Thread, opens: Sequence[Cursor] = (), date: datetime | None = None) -> Page:
    """Return a thread as the page of its conversation: one record, for each of its streams."""
    record = Record(encoded(thread))
    records = {"scanned_conversations": [record]}
    if thread.merged_into is None:
        records["shipments"] = [record]
    return Page(records, tuple(opens), end=True, date=date)


def merged_into(response: Response, conversation_id: str) -> str:
    """Return into which conversation another was merged, by where an answer 301 leads.

    Raises: `Unintelligible` where that is no other conversation.
    """
    path = urlsplit(response.headers.get("location", "")).path
    found = _CONVERSATION.search(path)
    if found is None or found["id"] == conversation_id:
        said = f"{conversation_id} was moved, and not to another conversation"
        raise Unintelligible("GET /conversations/{id}/messages", said)
    return found["id"]


def merged_page(response: Response, conversation_id: str) -> Page:
    """Return the page of a conversation that was merged: it names the one that has its messages."""
    target = merged_into(response, conversation_id)
    thread = Thread(conversation_id, merged_into=target)
    return thread_page(thread, (merged_item(target, conversation_id),), response.date)


def company_of(response: Response) -> str:
    """Return the company that a token lets in to.

    Raises: `Unintelligible` where the answer does not say.
    """
    me = syncd.decode(response, _Me, where=f"GET {ME}")
    return f"{me.name or 'a company without a name'} ({me.id or 'no id'})"
