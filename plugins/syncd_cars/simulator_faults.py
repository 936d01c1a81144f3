"""Faults of the simulated upstream: which there are, where they are armed, how often they fired."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    """What is answered in place of the page."""

    EMPTY_PAGE = "empty_page"
    """200, no records, no next link: the answer of a page past the end."""
    BROKEN_JSON = "broken_json"
    """200, the whole page, with a syntax error behind the records."""
    HALF_JSON = "half_json"
    """200, the first half of the page, with a `Content-Length` that agrees."""
    CUT_BODY = "cut_body"
    """200, the `Content-Length` of the page, half of its bytes, then the connection ends."""
    HTML = "html"
    """200 and a web page."""
    SERVER_ERROR = "server_error"
    """`status`, 503 unless told."""
    TOO_MANY_REQUESTS = "too_many_requests"
    """429, with and without `Retry-After` by turns; `times` of them are a run."""
    DRIP = "drip"
    """200, the page, a byte every `delay_seconds`."""
    HUGE_BODY = "huge_body"
    """200, a page of no records and `size_bytes` of spaces, made while it is sent."""
    GZIP_BOMB = "gzip_bomb"
    """200, `Content-Encoding: gzip`, small on the wire, `size_bytes` when inflated."""
    STALL = "stall"
    """The request is read and never answered."""
    REDIRECT = "redirect"
    """302 to `location`, another origin."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault, and when it is to happen.

    It happens to requests of `path` that passed the key and the rate limit: at `page` only, if that
    is given, and from the `request`-th (1 is the first since it was armed) of those on; `times`
    times, None for ever.
    """

    kind: FaultKind
    path: str = "/cars"
    page: int | None = None
    request: int = 1
    times: int | None = 1
    status: int = 503
    delay_seconds: float = 1.0
    size_bytes: int = 2 * 1024**3
    location: str = "https://elsewhere.invalid/cars"


class ArmedFault:
    """A fault in the script; `fired` counts how often it happened."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.seen = 0
        self.fired = 0

    @property
    def spent(self) -> bool:
        """Whether it happened as often as was asked for."""
        return self.fault.times is not None and self.fired >= self.fault.times

    def sees(self, path: str, page: int) -> bool:
        """Count a request if it is of the kind that is waited for; tell whether to fire at it."""
        fault = self.fault
        if path != fault.path or (fault.page is not None and page != fault.page):
            return False
        self.seen += 1
        return self.seen >= fault.request and not self.spent


class FaultScript:
    """The armed faults. Where several are due, the one that was armed first happens."""

    def __init__(self) -> None:
        self.armed: list[ArmedFault] = []

    def arm(self, fault: Fault) -> ArmedFault:
        """Add `fault` to the script."""
        armed = ArmedFault(fault)
        self.armed.append(armed)
        return armed

    def disarm(self) -> None:
        """Forget all faults, those that fired too."""
        self.armed.clear()

    def due(self, path: str, page: int) -> Fault | None:
        """Return the fault that befalls this request, counted as fired, or None."""
        ready = [armed for armed in self.armed if armed.sees(path, page)]
        if not ready:
            return None
        ready[0].fired += 1
        return ready[0].fault
