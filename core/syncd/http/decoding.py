"""From a body to typed values."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from syncd.errors import Unintelligible
from syncd.model import Response

T = TypeVar("T")

# msgspec quotes an unknown value of an enumeration in full.
_MESSAGE_CHARACTERS_MAX = 300


def decode(response: Response, kind: type[T], *, where: str) -> T:
    """Decode a JSON body into a type; a byte order mark before it is passed over (RFC 8259 8.1).

    A lone half of a surrogate pair, of which JSON can write and Unicode knows no text, is handed on
    as the bytes that it would be in UTF-8. No decoder takes them: the record that holds it is set
    aside, and not the page.

    Raises: `Unintelligible`, naming the position: of the byte where the body is no JSON, of the
        value where it has not the documented shape.
    """
    content = response.content.removeprefix(b"\xef\xbb\xbf")
    try:
        return cast("T", _decoded(content, kind))
    except RecursionError as exc:
        raise _unintelligible(response, where, "JSON is nested too deeply") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise _unintelligible(response, where, str(exc)) from exc


def _decoded(content: bytes, kind: Any) -> Any:
    decode = _decoder(kind).decode
    try:
        return decode(content)
    except msgspec.DecodeError:
        spelled = _without_lone_surrogates(content)
        if spelled == content:
            raise
        return decode(spelled)


# Escapes one after the other, so that a backslash that is escaped itself begins none. A pair, then
# a half by itself (RFC 8259 7 and 8.2), then any other.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u([dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\.",
    re.DOTALL,
)


def _without_lone_surrogates(content: bytes) -> bytes:
    def spelled(escape: re.Match[bytes]) -> bytes:
        half = escape[1]
        return escape[0] if half is None else chr(int(half, 16)).encode(errors="surrogatepass")

    return _ESCAPE.sub(spelled, content)


@lru_cache(maxsize=256)  # a decoder costs as much as decoding a page
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _unintelligible(response: Response, where: str, why: str) -> Unintelligible:
    return Unintelligible(
        where,
        f"{why[:_MESSAGE_CHARACTERS_MAX]}, of a body of {len(response.content)} bytes",
        "compare with the API's documentation",
    )
