"""Steer and question a simulator that runs in another process: `/_simulator/...`, all JSON.

| call | body or query | answer |
|---|---|---|
| GET counts | | requests, 429s, in flight, how often each page was served |
| GET log | `since` (monotonic seconds) | `[{at, path, query, status}]` |
| POST reset | | counts at zero, log empty |
| POST change | `{share, seed}` | `{ids}` |
| POST insert | `{cars}` | `{ids}` |
| POST archive | `{cars, seed}` or `{ids}` | `{ids}` |
| POST arm | a `Fault` | `{fault}`, its number |
| POST disarm | | no fault is armed, none is remembered |
| GET faults | | `[{fault, fired}]` |
| GET cars | `start`, `count` | `{rows, total}`: what is true, uncounted and unlimited |
"""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from syncd_cars.inventory import Inventory
from syncd_cars.simulator_counts import Counts
from syncd_cars.simulator_faults import Fault, FaultScript

T = TypeVar("T")

PREFIX = "/_simulator/"


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Change about `share` of the cars."""

    share: float
    seed: int = 0


class Insert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Insert `cars` at the head."""

    cars: int


class Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Archive the cars with these `ids`, or so many drawn by `seed`."""

    ids: list[int] | None = None
    cars: int = 0
    seed: int = 0


class Control:
    """Answers control requests."""

    def __init__(self, inventory: Inventory, counts: Counts, faults: FaultScript) -> None:
        self._inventory = inventory
        self._counts = counts
        self._faults = faults

    def answer(self, method: str, name: str, *, query: str, body: bytes) -> tuple[int, bytes]:
        """Return status and JSON; 404 for an unknown call, 422 for a body that does not fit."""
        try:
            if method == "GET":
                value = self._ask(name, dict(parse_qsl(query)))
            else:
                value = self._do(name, body or b"{}")
        except LookupError:
            return 404, _encode({"message": f"no control call {method} {name}"})
        except ValueError as error:
            return 422, _encode({"message": str(error)})
        return 200, _encode(value)

    def _ask(self, name: str, query: dict[str, str]) -> object:
        match name:
            case "counts":
                return self._counts_as_json()
            case "log":
                since = float(query.get("since", "-inf"))
                return [entry for entry in self._counts.log if entry.at >= since]
            case "faults":
                armed = self._faults.armed
                return [{"fault": each.fault, "fired": each.fired} for each in armed]
            case "cars":
                start, count = int(query.get("start", "0")), int(query.get("count", "1000"))
                rows = self._inventory.slice_of_cars(start, count)
                return {"rows": msgspec.Raw(b"[" + rows.rows + b"]"), "total": rows.total}
            case _:
                raise LookupError(name)

    def _do(self, name: str, body: bytes) -> object:
        match name:
            case "reset":
                self._counts.reset()
                return {}
            case "change":
                change = _decode(body, Change)
                return {"ids": self._inventory.change(change.share, seed=change.seed)}
            case "insert":
                return {"ids": self._inventory.insert_at_head(_decode(body, Insert).cars)}
            case "archive":
                archive = _decode(body, Archive)
                which = archive.cars if archive.ids is None else archive.ids
                return {"ids": self._inventory.archive(which, seed=archive.seed)}
            case "arm":
                self._faults.arm(_decode(body, Fault))
                return {"fault": len(self._faults.armed) - 1}
            case "disarm":
                self._faults.disarm()
                return {}
            case _:
                raise LookupError(name)

    def _counts_as_json(self) -> dict[str, Any]:
        counts = self._counts
        return {
            "requests": counts.requests,
            "too_many_requests": counts.too_many_requests,
            "in_flight": counts.in_flight,
            "in_flight_max": counts.in_flight_max,
            "cars": len(self._inventory),
            "records_rendered": self._inventory.rendered,
            "pages_served": [
                msgspec.to_builtins(page) | {"times": times}
                for page, times in counts.pages_served.items()
            ],
        }


def _decode(body: bytes, kind: type[T]) -> T:
    return msgspec.json.decode(body, type=kind)


def _encode(value: object) -> bytes:
    return msgspec.json.encode(value)
