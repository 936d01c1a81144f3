"""What the simulated Nhanh.vn answers. Nothing here waits: a server and a simulation ask it alike.

Where the documentation is silent, the answer is a guess that is as unfriendly as it may be: the
status of a failure is 200 unless `real_statuses`, what it says comes in a different shape each
time, and a cursor is refused with other filters than those it came with.
"""

from __future__ import annotations

import hmac
import math
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Literal

import attrs
import msgspec

from syncd_nhanh.simulator_customers import Customers
from syncd_nhanh.simulator_limit import Gate, Limit

CUSTOMERS = "/v3.0/customer/list"
CHECK = "/v3.0/app/checkaccesstoken"
PAGE_MAX = 100
APP_ID = 73905

OLD_TOKEN_SECONDS = 15 * 60  # for which a token lives on when there is a newer one
TOKEN_SECONDS = 365 * 86400

JSON = "application/json"
HTML = "text/html; charset=UTF-8"
_WEB_PAGE = b"<!DOCTYPE html><html><head><title>Nhanh.vn</title></head><body></body></html>"

# Guesses: the documentation names no status.
_STATUSES = {"ERR_429": 429, "ERR_INVALID_ACCESS_TOKEN": 401, "ERR_403": 403}


@attrs.frozen
class Asked:
    """A request as it arrives, at a moment in unix seconds."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str
    body: bytes
    at: float


@attrs.frozen
class Said:
    status: int
    body: bytes
    content_type: str = JSON


@attrs.define
class Fault:
    """What befalls the calls of one business: `times` of them, `None` for ever.

    ``"html"``: a web page. ``"down"``: 503. ``"error"``: a failure of that code.
    """

    kind: Literal["html", "down", "error"]
    business_id: int
    times: int | None = None
    code: str = "ERR_INVALID_DATA"
    fired: int = 0

    @property
    def spent(self) -> bool:
        return self.times is not None and self.fired >= self.times


@attrs.define
class _Token:
    text: str
    dies_at: float


@attrs.define
class Business:
    """A store, its customers, and the tokens that open it, the newest last."""

    customers: Customers
    tokens: list[_Token] = attrs.field(factory=list)


class Nhanh:
    """The upstream of some businesses.

    `after_page` is called after each page of customers: records may move between two pages.
    `asked` counts the calls that were let in by business; `sizes` the customers of each page.
    """

    def __init__(
        self,
        businesses: Mapping[int, Customers],
        *,
        at: float,
        gate: Gate | None = None,
        real_statuses: bool = False,
        secret_key: str = "an-invented-secret",  # noqa: S107 - invented
        after_page: Callable[[int, Customers], None] | None = None,
    ) -> None:
        self.businesses = {number: Business(each) for number, each in businesses.items()}
        self.gate: Gate = gate or Limit()
        self.faults: list[Fault] = []
        self.asked: Counter[int] = Counter()
        self.sizes: list[int] = []
        self.after_page = after_page
        self._real_statuses = real_statuses
        self._secret_key = secret_key
        self._refusals = 0
        for number in self.businesses:
            self.issue(number, at)

    def issue(self, business_id: int, at: float) -> str:
        """Make a token, as after a consent: the ones before it die a quarter of an hour later."""
        tokens = self.businesses[business_id].tokens
        for token in tokens:
            token.dies_at = min(token.dies_at, at + OLD_TOKEN_SECONDS)
        text = f"token-{business_id}" + f"-{len(tokens) + 1}" * bool(tokens)
        tokens.append(_Token(text, at + TOKEN_SECONDS))
        return text

    def answer(self, asked: Asked) -> Said:
        """Answer one request."""
        if asked.path not in {CUSTOMERS, CHECK}:
            return Said(404, _WEB_PAGE, HTML)  # what is not there is a web page
        business_id = _whole(asked.query.get("businessId"))
        if asked.method != "POST":
            return self._failure("ERR_INVALID_DATA", "only POST")
        if asked.query.get("appId") != str(APP_ID):
            return self._failure("ERR_INVALID_APP_ID", "Invalid appId")
        business = self.businesses.get(business_id)
        if business is None:
            return self._failure("ERR_INVALID_BUSINESS_ID", "Invalid businessId")
        token = self._token(business, asked)
        if token is None:
            return self._failure("ERR_INVALID_ACCESS_TOKEN", "Invalid access token")
        unlocked_at = self.gate.passes(f"{asked.path} of {business_id}", asked.at)
        if unlocked_at is not None:
            return self._locked(unlocked_at, asked.at)
        self.asked[business_id] += 1
        if (befallen := self._befallen(business_id)) is not None:
            return befallen
        if asked.path == CHECK:
            return self._checked(business_id, token, asked.body)
        return self._listed(business_id, business.customers, asked.body)

    def _token(self, business: Business, asked: Asked) -> _Token | None:
        given = asked.authorization.encode()
        for token in business.tokens:
            if hmac.compare_digest(token.text.encode(), given) and asked.at < token.dies_at:
                return token
        return None

    def _befallen(self, business_id: int) -> Said | None:
        for fault in self.faults:
            if fault.business_id != business_id or fault.spent:
                continue
            fault.fired += 1
            if fault.kind == "html":
                return Said(200, _WEB_PAGE, HTML)
            if fault.kind == "down":
                return Said(503, b"Service Unavailable", "text/plain")
            return self._failure(fault.code, "it went wrong")
        return None

    # -- failures ------------------------------------------------------------------------------

    def _failure(self, code: str, text: str, *, field: str = "request") -> Said:
        """Say that something is wrong, in another shape each time."""
        self._refusals += 1
        shapes: tuple[Any, ...] = (text, [text], {field: text})
        said = {"code": 0, "errorCode": code, "messages": shapes[self._refusals % len(shapes)]}
        return self._said(said, code)

    def _locked(self, unlocked_at: float, at: float) -> Said:
        data = {"lockedSeconds": int(unlocked_at - at), "unlockedAt": math.ceil(unlocked_at)}
        text = "Your app exceeded the API Rate Limit"
        said = {"code": 0, "errorCode": "ERR_429", "message": text, "data": data}
        return self._said(said, "ERR_429")

    def _said(self, value: Mapping[str, Any], code: str) -> Said:
        status = _STATUSES.get(code, 422) if self._real_statuses else 200
        return Said(status, msgspec.json.encode(value))

    # -- pages ---------------------------------------------------------------------------------

    def _checked(self, business_id: int, token: _Token, body: bytes) -> Said:
        asked = _object(body)
        if asked is None or asked.get("secretKey") != self._secret_key:
            return self._failure("ERR_INVALID_DATA", "Invalid secretKey")
        data = {
            "accessToken": token.text,
            "version": "3.0",
            "expiredAt": int(token.dies_at),
            "businessId": business_id,
            "depotIds": [],
            "pageIds": [],
            "permissions": ["customer.list"],
        }
        return Said(200, msgspec.json.encode({"code": 1, "data": data}))

    def _listed(self, business_id: int, customers: Customers, body: bytes) -> Said:
        asked = _object(body)
        filters = asked.get("filters") if asked else None
        paginator = asked.get("paginator") if asked else None
        if not isinstance(filters, dict) or not isinstance(paginator, dict):
            text = "must be an object"
            return self._failure("ERR_INVALID_FORM_FIELDS", text, field="filters")
        size = paginator.get("size", PAGE_MAX)
        if type(size) is not int or size < 1:
            text = "must be an integer"
            return self._failure("ERR_INVALID_FORM_FIELDS", text, field="paginator.size")
        mark = _mark(filters)
        following = paginator.get("next") or None
        try:
            below = _below(following, mark)
        except ValueError:
            return self._cursor_refused()
        page = self._page(customers, filters, below=below, size=min(size, PAGE_MAX))
        found, last = page
        answer: dict[str, Any] = {"size": size}
        if last is not None:
            # An object on odd pages, an array on even ones.
            is_odd = not isinstance(following, dict)
            answer["next"] = {"id": last, "of": mark} if is_odd else [last, mark]
        elif len(self.sizes) % 2:
            answer["next"] = None  # the end is told in both ways
        self.sizes.append(len(found))
        said = {"code": 1, "data": found, "paginator": answer}
        if self.after_page is not None:
            self.after_page(business_id, customers)
        return Said(200, msgspec.json.encode(said))

    def _cursor_refused(self) -> Said:
        messages = {"paginator.next": "is invalid"}
        said = {"code": 0, "errorCode": "ERR_INVALID_FORM_FIELDS", "messages": messages}
        return self._said(said, "ERR_INVALID_FORM_FIELDS")

    def _page(
        self, customers: Customers, filters: Mapping[str, Any], *, below: int | None, size: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Cut a page, and then take out of it what is gone; with the last id where it goes on."""
        places = customers.matching(filters, below=below, most=size + 1)
        page = places[:size]
        last = customers.id_of(page[-1]) if len(places) > size else None
        return [customers.record(each) for each in page if each not in customers.gone], last


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None


def _mark(filters: Mapping[str, Any]) -> str:
    encoded = msgspec.json.encode(filters, order="sorted")
    return blake2b(encoded, digest_size=4).hexdigest()


def _below(following: Any, mark: str) -> int | None:
    """Read a cursor of one's own.

    Raises: `ValueError` where it is none, or came with other filters.
    """
    match following:
        case None:
            return None
        case {"id": int(last), "of": str(of)} | [int(last), str(of)] if of == mark:
            return last
        case _:
            raise ValueError("no cursor of these filters")


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else -1
