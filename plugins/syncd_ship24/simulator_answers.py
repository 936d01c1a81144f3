"""What the simulated Ship24 answers. Nothing here waits: a server and a simulation ask it alike."""

from __future__ import annotations

import hmac
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from typing import Any, Literal

import attrs
import msgspec

from syncd.testing import Call, Reply
from syncd_ship24.simulator_limits import Limits
from syncd_ship24.simulator_oddities import Oddities
from syncd_ship24.simulator_parcels import JOURNEY, Parcel, Times
from syncd_ship24.simulator_webhooks import Webhooks

API_KEY = "an-invented-key"
WEBHOOK_SECRET = "an-invented-webhook-secret"  # noqa: S105 - invented

BULK_MAX = 100
PAGE_MAX = 500
SLOW_SECONDS = 30.0
JSON = "application/json; charset=utf-8"

_NUMBER = re.compile(r"[a-zA-Z0-9\-_/.]{5,50}")
_PATH = re.compile(r"/trackers(?:/(bulk)|/([^/]+)(?:/(results|webhook-events/resend))?)?")

Mode = Literal["up", "slow", "down"]


@attrs.frozen
class Asked:
    """What was asked, how it ended, and of how many trackers it told."""

    endpoint: str
    status: int
    trackers: int = 0


class Ship24:
    """The upstream of one key.

    The same body again names the tracker that it made; any other makes one more. `mode` ``"slow"``:
    every answer takes half a minute; ``"down"``: all is 503. `quota`: how many trackers may yet be
    made (`None`: any number), `quota_status` what is answered after that. `refusals` are statuses
    and codes to answer the next calls with; after `lost` registrations that are carried out comes a
    504 in place of their answer. `limits`: each endpoint takes its calls a second, and no more.
    `times`: events' in all shapes, or ``"zoned"``. `odd`: what is rare, see `Oddities`.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int = 0,
        quota: int | None = None,
        quota_status: int = 403,
        limits: bool = True,
        seconds: float = 0.0,
        times: Times = "mixed",
    ) -> None:
        self.parcels: dict[str, Parcel] = {}
        self.webhooks = Webhooks(WEBHOOK_SECRET, seed=seed)
        self.asked: list[Asked] = []
        self.refusals: deque[tuple[int, str]] = deque()
        self.mode: Mode = "up"
        self.quota = quota
        self.lost = 0
        self.odd = Oddities()
        self._now = now
        self._seed = seed
        self._seconds = seconds
        self._quota_status = quota_status
        self._limits = Limits() if limits else None
        self._times: Times = times
        self._by_body: dict[bytes, Parcel] = {}
        self._random = Random(f"answers {seed}")  # noqa: S311 - no secret

    # -- what is there, and moves --------------------------------------------------------------

    def register(self, body: Mapping[str, Any]) -> tuple[Parcel, bool]:
        """Make the tracker of a body, or find it; say whether it is new."""
        canonical = msgspec.json.encode(body, order="deterministic")
        found = self._by_body.get(canonical)
        if found is not None:
            return found, False
        number = len(self.parcels)
        seed = f"parcel {self._seed} {number}"
        parcel = Parcel("", dict(body), self._now(), seed=seed, times=self._times)
        parcel.tracker_id = parcel.uuid("tracker")
        self.parcels[parcel.tracker_id] = self._by_body[canonical] = parcel
        if self.quota is not None:
            self.quota -= 1
        return parcel, True

    def happen(self, parcel: Parcel, events: int = 1) -> None:
        """Let events happen to a parcel; a webhook's message tells of each."""
        for _ in range(min(events, len(JOURNEY) - parcel.happened)):
            parcel.happened += 1
            place, ahead = parcel.happened - 1, self.odd.ahead
            self.webhooks.tell(parcel, place, at=self._now(), ahead=ahead)
            if parcel.arrived and self.odd.pod:
                self.webhooks.tell(parcel, None, at=self._now(), topic="tracking/pod")

    def move(self, share: float) -> int:
        """Let something happen to a share of the parcels that are under way; say to how many."""
        under_way = [each for each in self.parcels.values() if not each.arrived]
        chosen = self._random.sample(under_way, round(share * len(under_way)))
        for parcel in chosen:
            self.happen(parcel)
        return len(chosen)

    # -- answers -------------------------------------------------------------------------------

    def answer(self, call: Call) -> Reply:
        """Answer one request."""
        found = _PATH.fullmatch(call.path)
        endpoint = _endpoint(call.method, found)
        told = self._limits.told(endpoint, self._now().timestamp()) if self._limits else {}
        reply = self._answered(call, endpoint, found, refused="retry-after" in told)
        self.asked.append(Asked(endpoint, reply.status, _count(reply)))
        seconds = SLOW_SECONDS if self.mode == "slow" else self._seconds
        return attrs.evolve(
            reply, headers={**reply.headers, **told}, seconds=self.odd.seconds(seconds)
        )

    def _answered(
        self, call: Call, endpoint: str, found: re.Match[str] | None, *, refused: bool
    ) -> Reply:
        if self.mode == "down":
            return self._text(503, "Service Unavailable")
        if refused:
            return self._text(429, "Too Many Requests")
        if (gate := self._gate(call)) is not None:
            return gate
        if self.odd.pages:
            return self._page(self.odd.pages.popleft())
        if self.refusals:
            status, code = self.refusals.popleft()
            return self._error(status, code)
        tracker_id = found[2] if found is not None else None
        match endpoint:
            case "bulk":
                return self._bulk(call.body)
            case "create":
                return self._create(call.body)
            case "list":
                return self._list(call.query)
        parcel = self._parcel(tracker_id, call.query.get("searchBy", "trackerId"))
        if parcel is None:
            return self._error(404, "tracker_not_found")
        match endpoint:
            case "results":
                return self._reply(200, {"data": {"trackings": [parcel.tracking()]}})
            case "tracker":
                return self._reply(200, {"data": {"tracker": parcel.tracker(subscription=True)}})
            case "resend":
                for place in range(parcel.happened):
                    self.webhooks.tell(parcel, place, at=self._now())
                return self._reply(201, {"data": {"summary": {"totalResent": parcel.happened}}})
        return self._error(404, "not_found")

    def _gate(self, call: Call) -> Reply | None:
        given = call.headers.get("authorization", "")
        if not given:
            return self._error(400, "auth_missing_header")
        if not given.startswith("Bearer "):
            return self._error(400, "auth_invalid_header")
        if not hmac.compare_digest(given.encode(), f"Bearer {API_KEY}".encode()):
            return self._error(401, "auth_invalid_api_key")
        return None

    def _parcel(self, name: str | None, search_by: str) -> Parcel | None:
        if search_by == "clientTrackerId":
            held = (p for p in self.parcels.values() if p.asked.get("clientTrackerId") == name)
            return next(held, None)
        return self.parcels.get(name or "")

    # -- registrations -------------------------------------------------------------------------

    def _bulk(self, body: bytes) -> Reply:
        items = _decoded(body)
        if not isinstance(items, list) or not items:
            return self._refused(400, "parsing_error", "The body must be an array")
        if len(items) > BULK_MAX:
            return self._refused(403, "bulk_create_limit_exceeded", "At most 100 items")
        wrong = [_wrong(item) for item in items]
        if all(wrong):
            text = "Every single item failed validation"
            return self._refused(400, "processing_error", text)
        good = [item for item, why in zip(items, wrong, strict=True) if not why]
        if not self.odd.quota_by_item and self._over_quota(good):
            return self._refused(self._quota_status, "quota_limit_reached", "Quota reached")
        said = [self._item(item, why) for item, why in zip(items, wrong, strict=True)]
        counted = Counter(each["itemStatus"] for each in said)
        self._random.shuffle(said)
        if self.lost:
            self.lost -= 1
            return self._text(504, "Gateway Timeout")
        partial = counted["error"] > 0
        summary = {
            "totalInputs": len(items),
            "totalCreated": counted["created"],
            "totalExisting": counted["existing"],
            "totalErrors": counted["error"],
        }
        status = 207 if partial else self._random.choice((201, 200))  # the pages differ
        named = "partial" if partial else "success"
        return self._reply(
            status, {"status": named, "summary": summary, "data": said, "error": None}
        )

    def _over_quota(self, items: Sequence[Any]) -> bool:
        new = {msgspec.json.encode(item, order="deterministic") for item in items}
        return self.quota is not None and len(new - self._by_body.keys()) > self.quota

    def _item(self, item: Any, wrong: str) -> dict[str, Any]:
        number = item.get("trackingNumber") if isinstance(item, dict) else None
        said: dict[str, Any] = {"itemStatus": "error", "inputData": item}
        code = wrong or self.odd.code(number) or self._conflict(item)
        if not code and self._over_quota([item]):
            code = "quota_limit_reached"
        if code:
            said["errors"] = [{"code": code, "message": f"The item was refused: {code}"}]
            if self._random.random() >= 0.5:  # the examples have no `tracker`, the text says null
                said["tracker"] = None
            return self.odd.item(said, number)
        parcel, is_new = self.register(item)
        said["itemStatus"] = "created" if is_new else "existing"
        said |= {"tracker": parcel.tracker(subscription=True), "errors": None}
        return self.odd.item(said, number)

    def _conflict(self, item: Mapping[str, Any]) -> str:
        held = self._parcel(item.get("clientTrackerId"), "clientTrackerId")
        taken = "clientTrackerId" in item and held is not None and held.asked != item
        return "tracker_conflict" if taken else ""

    def _create(self, body: bytes) -> Reply:
        item = _decoded(body)
        if code := _wrong(item) or self._conflict(item):
            return self._error(400, code)
        if self._over_quota([item]):
            return self._error(self._quota_status, "quota_limit_reached")
        parcel, _ = self.register(item)
        return self._reply(201, {"data": {"tracker": parcel.tracker(subscription=True)}})

    # -- pages ---------------------------------------------------------------------------------

    def _list(self, query: Mapping[str, str]) -> Reply:
        try:
            page, limit = int(query["page"]), int(query["limit"])
            sort = int(query.get("sort", "1"))
        except (KeyError, ValueError):
            return self._error(400, "missing_mandatory_field")
        if page < 1 or not 1 <= limit <= PAGE_MAX or sort not in {1, -1}:
            return self._error(400, "validation_error")
        listed = list(self.parcels.values())[::sort]
        cut = listed[(page - 1) * limit : page * limit]
        trackers = [each.tracker(subscription=True) for each in cut]
        return self._reply(200, {"data": {"trackers": trackers}})

    # -- writing -------------------------------------------------------------------------------

    def _error(self, status: int, code: str) -> Reply:
        text = code.replace("_", " ").capitalize()
        return self._reply(status, {"errors": [{"code": code, "message": text}], "data": None})

    def _refused(self, status: int, code: str, text: str) -> Reply:
        error = {"code": code, "message": text}
        return self._reply(
            status, {"status": "error", "summary": None, "data": None, "error": error}
        )

    def _text(self, status: int, text: str) -> Reply:
        return Reply(status, text.encode(), {**self._fields(), "content-type": "text/plain"})

    def _page(self, status: int) -> Reply:
        body = b"<!doctype html><title>We will be back soon</title>"
        return Reply(status, body, {**self._fields(), "content-type": "text/html"})

    def _reply(self, status: int, value: Mapping[str, Any]) -> Reply:
        return Reply(status, msgspec.json.encode(value), self._fields())

    def _fields(self) -> dict[str, str]:
        date = format_datetime(self._now().astimezone(UTC), usegmt=True)
        request_id = f"{self._random.getrandbits(64):016x}"
        return {"content-type": JSON, "date": date, "x-request-id": request_id}


def _endpoint(method: str, found: re.Match[str] | None) -> str:
    if found is None:
        return "nowhere"
    is_bulk, tracker_id, below = found.groups()
    match method, bool(is_bulk), tracker_id is not None, below:
        case "POST", True, _, _:
            return "bulk"
        case "POST", False, False, _:
            return "create"
        case "GET", False, False, _:
            return "list"
        case "GET", False, True, None:
            return "tracker"
        case "GET", False, True, "results":
            return "results"
        case "POST", False, True, "webhook-events/resend":
            return "resend"
    return "nowhere"


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None


def _wrong(item: Any) -> str:
    """Return the code of what is wrong with an input; empty where nothing is."""
    if not isinstance(item, dict):
        return "parsing_error"
    number = item.get("trackingNumber")
    if number is None:
        return "missing_mandatory_field"
    is_number = isinstance(number, str) and _NUMBER.fullmatch(number)
    return "" if is_number and None not in item.values() else "validation_error"


def _count(reply: Reply) -> int:
    if reply.status >= 300 or not reply.headers["content-type"].startswith("application/json"):
        return 0
    data = reply.json.get("data")
    if isinstance(data, dict):
        found: Sequence[Any] = data.get("trackers") or data.get("trackings") or ()
        return len(found)
    return len(data or ())
