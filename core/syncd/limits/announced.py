"""What answers say of limits in their header fields: one parser for all dialects.

    Retry-After: 30                          seconds, or an HTTP date (RFC 9110 10.2.3)
    Retry-After-Ms: 1500                     milliseconds
    RateLimit-Limit, -Remaining, -Reset      draft-ietf-httpapi-ratelimit-headers-06: seconds to go
    RateLimit: limit=9, remaining=5, reset=4                      -07
    RateLimit: "default";r=5;t=4    RateLimit-Policy: "default";q=9;w=60        -08 and later
    X-RateLimit-Limit, -Remaining, -Reset    seconds to go, or Unix time in s, ms, with decimals
    x-ratelimit-remaining-tokens: 149984     and -requests, with -reset-tokens: 6m0s, 20ms
    X-RateLimit-Burst-Remaining: 50          what may pass above what is left of the limit

Moments are measured against `date`, the answer's own Date: the clock of whoever wrote them. What
is not understood counts as absent; waits lie between 0 and an hour, as an upstream that asks for
more may have meant another unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import attrs

from syncd.model import REQUESTS

WAIT_MAX_SECONDS = 3600.0
_COUNT_MAX = 10**12  # nobody allows more; int() refuses thousands of digits
_DATE_CHARACTERS_MAX = 64  # no form of an HTTP date is longer than 33

# Numbers above these are moments: 10**9 s is September 2001, and so are 10**12 ms.
_UNIX_SECONDS = 10**9
_UNIX_MILLISECONDS = 10**12

_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_PART = r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(
    rf"(?!$)(?:({_PART})h)?(?:({_PART})m(?!s))?(?:({_PART})s)?(?:({_PART})ms)?(?:({_PART})(?:us|µs))?"
)
_DURATION_SECONDS = (3600.0, 60.0, 1.0, 0.001, 0.000001)
_FIELD = re.compile(r"(?:x-)?rate-?limit-(limit|remaining|reset|burst-remaining)(?:-([a-z]+))?")
_PARAMETER = re.compile(r"([a-z]+) ?= ?\"?([0-9.]+)\"?")


@attrs.frozen
class Announced:
    """What one answer says of one unit; what it does not say is `None`.

    `burst`: how many may pass above those that are `remaining`.
    """

    unit: str = REQUESTS
    limit: int | None = None
    remaining: int | None = None
    resets_in_seconds: float | None = None
    window_seconds: float | None = None
    burst: int | None = None


def http_date(value: str | None) -> datetime | None:
    """Read an HTTP date (RFC 9110 5.6.7) as an aware moment in UTC; junk is `None`."""
    if value is None or len(value) > _DATE_CHARACTERS_MAX:
        return None
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # RFC 9110: an HTTP date is UTC, whatever stands for its zone
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        # email.utils is made for mail and meets junk with any of these.
        return None


def retry_after_seconds(
    value: str | None, *, date: datetime | None, milliseconds: str | None = None
) -> float | None:
    """Read Retry-After, or the finer Retry-After-Ms where it is there; junk is `None`."""
    if milliseconds is not None and _NUMBER.fullmatch(milliseconds.strip()):
        return _wait(float(milliseconds) / 1000.0)
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return _wait(float(value[:9]))  # nine digits are past the cap
    moment = http_date(value)
    return None if moment is None or date is None else _wait((moment - date).total_seconds())


def reset_seconds(value: str, *, date: datetime | None) -> float | None:
    """Read a reset in whatever dialect, as seconds to go; junk is `None`."""
    value = value.strip()
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number < _UNIX_SECONDS:
            return _wait(number)
        moment_seconds = number / 1000.0 if number >= _UNIX_MILLISECONDS else number
        return None if date is None else _wait(moment_seconds - date.timestamp())
    if (parts := _DURATION.fullmatch(value)) is not None:
        given = zip(parts.groups(), _DURATION_SECONDS, strict=True)
        return _wait(sum(float(count) * seconds for count, seconds in given if count))
    moment = http_date(value)
    return None if moment is None or date is None else _wait((moment - date).total_seconds())


def announcements(headers: Mapping[str, str], *, date: datetime | None) -> tuple[Announced, ...]:
    """Return what an answer says of what is left, one entry per unit and dialect.

    `headers` have their names in lower case.
    """
    plain: dict[tuple[bool, str | None], dict[str, str]] = {}
    said: list[Announced] = []
    for name, value in headers.items():
        if "limit" not in name:  # all but a few fields, at the price of a look
            continue
        if name == "ratelimit":
            said.extend(_structured(value, headers.get("ratelimit-policy", "")))
        elif (field := _FIELD.fullmatch(name)) is not None:
            key = (name.startswith("x-"), field[2])
            plain.setdefault(key, {})[field[1]] = value
    said.extend(_plain(unit or REQUESTS, fields, date) for (_, unit), fields in plain.items())
    return tuple(said)


def _plain(unit: str, fields: Mapping[str, str], date: datetime | None) -> Announced:
    limit = fields.get("limit", "")
    return Announced(
        unit,
        limit=_count(limit.split(",")[0].split(";")[0]),
        remaining=_count(fields.get("remaining", "")),
        resets_in_seconds=reset_seconds(fields.get("reset", ""), date=date),
        window_seconds=_parameters(limit).get("w"),
        burst=_count(fields.get("burst-remaining", "")),
    )


def _structured(value: str, policy: str) -> Iterator[Announced]:
    """Read the field RateLimit: one item a policy, or in -07 the three words of one."""
    policies = [_parameters(item) for item in policy.split(",")]
    first = policies[0]
    if "remaining" in (words := _parameters(value)):
        window_seconds = first.get("w")
        yield _announced(words.get("limit"), words["remaining"], words.get("reset"), window_seconds)
        return
    for item in value.split(","):
        named = item.split(";")[0].strip()
        of = next((p for p, text in zip(policies, policy.split(","), strict=True)
                   if text.split(";")[0].strip() == named), first)  # fmt: skip
        words = _parameters(item)
        if "r" in words:
            yield _announced(of.get("q"), words["r"], words.get("t"), of.get("w"))


def _announced(
    limit: float | None, remaining: float, reset: float | None, window: float | None
) -> Announced:
    return Announced(
        REQUESTS,
        limit=None if limit is None else int(limit),
        remaining=int(remaining),
        resets_in_seconds=None if reset is None else _wait(reset),
        window_seconds=window,
    )


def _parameters(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in _PARAMETER.findall(text.lower())
        if _NUMBER.fullmatch(value)
    }


def _count(text: str) -> int | None:
    """Read a number of requests; one below nothing left (some count on) is nothing left."""
    text = text.strip()
    if text.startswith("-") and _NUMBER.fullmatch(text[1:]):
        return 0
    return min(math.floor(float(text)), _COUNT_MAX) if _NUMBER.fullmatch(text) else None


def _wait(seconds: float) -> float:
    return min(max(seconds, 0.0), WAIT_MAX_SECONDS)
