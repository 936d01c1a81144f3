"""Header fields, read strictly: what is not understood counts as absent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from syncd.errors import ConfigError
from syncd.model import Secret

# An upstream that asks for more is asked again after an hour: it may have meant milliseconds.
RETRY_AFTER_MAX_SECONDS = 3600.0

# RFC 9110 5.1 and 5.5: a name is a token; a value is visible ASCII, with blanks inside only.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")


def is_sendable(name: str, value: str) -> bool:
    """Say whether a header field can be sent as it is."""
    return bool(_NAME.fullmatch(name) and _VALUE.fullmatch(value))


def request_fields(
    where: str, headers: Mapping[str, str | Secret], *, version: str
) -> dict[str, str]:
    """Return the header fields of every request to an upstream, secrets revealed.

    Raises: `ConfigError` for what cannot be sent.
    """
    fields = {"accept-encoding": "gzip", "user-agent": f"syncd/{version}"}
    for name, value in headers.items():
        text = value.reveal() if isinstance(value, Secret) else value
        # Checked here, because the HTTP library's own complaint would quote the value.
        if not is_sendable(name, text):
            raise ConfigError(
                where,
                f"header {name!r} cannot be sent",
                "use visible ASCII characters, no line ends, no blanks at its ends",
            )
        fields[name.lower()] = text
    return fields


def http_date(value: str | None) -> datetime | None:
    """Read an HTTP date (RFC 9110 5.6.7) as an aware moment in UTC; junk is `None`."""
    if value is None or len(value) > 64:  # no form is longer than 33 characters
        return None
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # RFC 9110: an HTTP date is UTC, whatever stands for its zone
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        # email.utils is made for mail and meets junk with any of these.
        return None


def retry_after_seconds(value: str | None, *, date: datetime | None) -> float | None:
    """Read Retry-After (RFC 9110 10.2.3): between 0 and an hour; junk is `None`.

    The date form is measured against `date`, the moment by the clock of whoever wrote it.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Nine digits are past the cap, and int() refuses thousands of them.
        return min(float(value[:9]), RETRY_AFTER_MAX_SECONDS)
    moment = http_date(value)
    if moment is None or date is None:
        return None
    return min(max((moment - date).total_seconds(), 0.0), RETRY_AFTER_MAX_SECONDS)


def media_type(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """Return Content-Type's media type and charset, both in lower case."""
    kind, *parameters = headers.get("content-type", "").split(";")
    charset = None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"').lower()
    return kind.strip().lower(), charset


def is_json(media: str) -> bool:
    """Say whether a media type is JSON (RFC 6839: a ``+json`` suffix is)."""
    return media == "application/json" or media.endswith("+json")


def accepts(accept: str, media: str) -> bool:
    """Say whether a media type is one that was asked for; any JSON answers any JSON."""
    for item in accept.lower().split(","):
        wanted = item.partition(";")[0].strip()
        if wanted in {media, "*/*"} or (is_json(wanted) and is_json(media)):
            return True
        if wanted.endswith("/*") and media.startswith(wanted[:-1]):
            return True
    return False


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the announced size of the body as sent, in bytes."""
    value = headers.get("content-length", "")
    # The HTTP library refuses lengths that contradict each other or are no numbers.
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
