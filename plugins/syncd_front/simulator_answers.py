"""What the simulated Front answers: a plain object, asked without waiting for anything.

It serves tests over HTTP (`simulator.py`) and in virtual time alike.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode

import attrs
import msgspec

from syncd.testing import Reply
from syncd_front.simulator_limits import Limits
from syncd_front.simulator_mail import Company, Conversation
from syncd_front.simulator_shapes import conversation_json, event_json, message_json

PAGE_MAX = 100
PAGE_DEFAULT = 50
EVENTS_MAX = 15

TITLES = {
    400: "Bad request",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "Not found",
    409: "Conflict",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}
_FILTER = re.compile(r"(\w+):(\S+)")


@attrs.frozen
class Call:
    """One request; `path` as it was sent, still encoded; header names in lower case."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""

    def first(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.query if key == name), default)

    def every(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]


@attrs.frozen
class Asked:
    """What was asked, and how it ended."""

    path: str
    status: int


class Front:
    """The upstream of one company.

    `calls` a minute (none: any number). `next_base`: what next links begin with, which is another
    host than the one that was asked. `empty_every`: of so many pages one holds nothing, and still
    has a next. `after_page` is called between two pages of a search, `after_messages` with a
    conversation of which a page of messages was answered. `told` makes of a conversation what a
    search tells of it, `written` of a message what a page of its thread does.
    """

    def __init__(
        self,
        company: Company,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        token: str = "front-token",  # noqa: S107 - the simulator's own
        calls: int | None = None,
        next_base: str | None = None,
        scopes: Sequence[str] = ("conversations:read", "messages:read", "events:read"),
        empty_every: int | None = None,
        page_max: int = PAGE_MAX,
    ) -> None:
        self.company = company
        self.limits = Limits(calls)
        self.asked: list[Asked] = []
        self.faults: deque[int] = deque()  # statuses to answer the next calls with
        self.after_page: Callable[[], None] | None = None
        self.after_messages: Callable[[str], None] | None = None
        self.told: Callable[[dict[str, Any]], Any] = lambda told: told
        self.written: Callable[[dict[str, Any]], Any] = lambda written: written
        self.searches: list[str] = []
        self._now = now
        self._token = token
        self._next_base = next_base or f"https://{company.name}.api.frontapp.com"
        self._scopes = frozenset(scopes)
        self._empty_every = empty_every
        self._page_max = page_max
        self._pages = 0

    def answer(self, call: Call) -> Reply:
        """Answer one request."""
        reply = self._answer(call)
        self.asked.append(Asked(call.path, reply.status))
        return reply

    def refuse(self, call: Call, seconds: float = 1.0) -> Reply:
        """Answer that too many asked."""
        self.asked.append(Asked(call.path, 429))
        return self._throttled(seconds, None)

    def _answer(self, call: Call) -> Reply:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token != self._token:
            return self._failed(401, "Invalid token")
        parts = [unquote(part) for part in call.path.strip("/").split("/")]
        search = parts[:2] == ["conversations", "search"]
        resource = parts[1] if parts[-1] == "messages" else None
        refusal = self.limits.refuses(self._at, search=search, resource=resource)
        if refusal is not None:
            return self._throttled(refusal.seconds, refusal.tier)
        if self.faults:
            return self._failed(self.faults.popleft(), "scripted")
        if call.method != "GET":
            return self._failed(404, "The resource does not exist")
        return self._routed(call, parts)

    def _routed(self, call: Call, parts: Sequence[str]) -> Reply:
        match parts:
            case ["me"]:
                me = {"_links": {"self": f"{self._next_base}/me"}, "id": "cmp_1"}
                return self._said({**me, "name": self.company.name})
            case ["inboxes"]:
                names = sorted({each.inbox for each in self.company.conversations.values()})
                rows = [{"id": name, "name": name} for name in names]
                return self._said({"_links": {}, "_results": rows})
            case ["conversations", "search", query]:
                return self._scoped("conversations:read") or self._search(call, query)
            case ["conversations"]:
                rows = [conversation_json(each, self._next_base) for each in self.company.active()]
                return self._scoped("conversations:read") or self._page(call, rows)
            case ["inboxes", inbox, "conversations"]:
                found = self.company.active(inbox=inbox)
                rows = [conversation_json(each, self._next_base) for each in found]
                return self._scoped("conversations:read") or self._page(call, rows)
            case ["conversations", name]:
                return self._scoped("conversations:read") or self._conversation(name)
            case ["conversations", name, "messages"]:
                return self._scoped("messages:read") or self._messages(call, name)
            case ["messages", name]:
                return self._scoped("messages:read") or self._message(name)
            case ["events"]:
                return self._scoped("events:read") or self._events(call)
            case _:
                return self._failed(404, "The resource does not exist")

    # --- What is asked for ------------------------------------------------------------------------

    def _search(self, call: Call, query: str) -> Reply:
        filters = _FILTER.findall(query)
        names = [name for name, _ in filters]
        unknown = set(names) - {"inbox", "after", "before", "tag", "is"}
        told = dict(filters)
        if unknown or len(names) != len(set(names)) or not told.get("after", "0").isdecimal():
            return self._failed(400, "Invalid query")
        self.searches.append(query)
        after = float(told.get("after", "0"))
        before = float(told.get("before", "inf"))
        found = [
            each
            for each in self.company.active(after=after, inbox=told.get("inbox"))
            if each.updated_at < before and told.get("tag") in {None, *each.tags}
        ]
        rows = [self.told(conversation_json(each, self._next_base)) for each in found]
        reply = self._page(call, rows, total=len(rows), thins=True)
        if self.after_page is not None:
            self.after_page()
        return reply

    def _conversation(self, name: str) -> Reply:
        conversation = self.company.conversations.get(name)
        if conversation is None:
            return self._failed(404, "The resource does not exist")
        if conversation.merged_into is not None:
            return self._moved(f"/conversations/{conversation.merged_into}")
        return self._said(conversation_json(conversation, self._next_base))

    def _messages(self, call: Call, name: str) -> Reply:
        conversation = self.company.conversations.get(name)
        if conversation is None:
            return self._failed(404, "The resource does not exist")
        if conversation.merged_into is not None:
            return self._moved(f"/conversations/{conversation.merged_into}/messages")
        reply = self._page(call, self._rendered(conversation))
        if self.after_messages is not None:
            self.after_messages(name)
        return reply

    def _rendered(self, conversation: Conversation) -> list[Any]:
        newest = sorted(conversation.messages, key=lambda message: -message.at)
        base = self._next_base
        return [self.written(message_json(conversation, each, base)) for each in newest]

    def _message(self, name: str) -> Reply:
        for conversation in self.company.conversations.values():
            for message in conversation.messages:
                if message.id == name:
                    return self._said(message_json(conversation, message, self._next_base))
        return self._failed(404, "The resource does not exist")

    def _events(self, call: Call) -> Reply:
        after = float(call.first("q[after]", "0"))
        types = call.every("q[types]")
        rows = [
            event_json(conversation, message, self._next_base)
            for conversation, message in self.company.sent()
            if message.at >= after
        ]
        chosen = [row for row in rows if not types or row["type"] in types]
        return self._page(call, chosen, most=EVENTS_MAX)

    # --- Pages ------------------------------------------------------------------------------------

    def _page(
        self,
        call: Call,
        rows: Sequence[Any],
        *,
        total: int | None = None,
        most: int | None = None,
        thins: bool = False,
    ) -> Reply:
        """Return the rows from an offset on: what comes to the head meanwhile shifts the others."""
        limit = call.first("limit", str(PAGE_DEFAULT))
        token = call.first("page_token") or "0"
        if not limit.isdecimal() or not re.fullmatch(r"([0-9a-f]+\.)?[0-9a-f]+", token):
            return self._failed(400, "Invalid page_token")
        count, offset = (
            max(min(int(limit), most or self._page_max, self._page_max), 1),
            int(token.rpartition(".")[2], 16),
        )
        self._pages += thins
        empty = thins and self._empty_every and self._pages % self._empty_every == 0
        shown, end = (
            ([], offset) if empty else (list(rows[offset : offset + count]), offset + count)
        )
        following = None
        if end < len(rows):
            kept = [(name, value) for name, value in call.query if name != "page_token"]
            asked = urlencode([*kept, ("page_token", f"{self._pages:04x}.{end:x}")])
            following = f"{self._next_base}{quote(unquote(call.path))}?{asked}"
        body = {"_pagination": {"next": following}, "_links": {"self": call.path}}
        if total is not None:
            body["_total"] = total
        return self._said({**body, "_results": shown})

    # --- Writing ----------------------------------------------------------------------------------

    @property
    def _at(self) -> float:
        return self._now().timestamp()

    def _scoped(self, scope: str) -> Reply | None:
        return None if scope in self._scopes else self._failed(403, f"Missing scope {scope}")

    def _moved(self, path: str) -> Reply:
        return Reply(301, b"", {**self._fields(), "location": f"{self._next_base}{path}"})

    def _throttled(self, seconds: float, tier: str | None) -> Reply:
        fields = {"retry-after": str(max(int(-(-seconds // 1)), 1))}
        if tier is not None:
            fields["x-front-tier"] = tier
        return self._failed(429, "Rate limit exceeded", fields, details=[])

    def _failed(
        self, status: int, message: str, fields: Mapping[str, str] | None = None, **more: Any
    ) -> Reply:
        error = {"status": status, "title": TITLES.get(status, ""), "message": message, **more}
        return self._reply(status, {"_error": error}, fields or {})

    def _said(self, value: Any) -> Reply:
        return self._reply(200, value, {})

    def _reply(self, status: int, value: Any, fields: Mapping[str, str]) -> Reply:
        kind = {"content-type": "application/json"}
        return Reply(status, msgspec.json.encode(value), {**self._fields(), **kind, **fields})

    def _fields(self) -> Mapping[str, str]:
        now = self._now().astimezone(UTC)
        return {"date": format_datetime(now, usegmt=True), **self.limits.headers(now.timestamp())}
