"""Header fields, read strictly: what is not understood counts as absent."""

from __future__ import annotations

import re
from collections.abc import Mapping

from syncd.errors import ConfigError
from syncd.model import Secret

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
    own = {"accept-encoding": "gzip", "user-agent": f"syncd/{version}"}
    return own | plain_fields(where, headers)


def plain_fields(where: str, headers: Mapping[str, str | Secret]) -> dict[str, str]:
    """Return header fields as they are sent, by name in lower case.

    Raises: `ConfigError` for what cannot be sent.
    """
    fields = {}
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
