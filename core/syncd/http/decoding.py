"""From a body to typed values."""

from __future__ import annotations

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

    Raises: `Unintelligible`, naming the position: of the byte where the body is no JSON, of the
        value where it has not the documented shape.
    """
    try:
        decoder = _decoder(cast("Any", kind))
        return cast("T", decoder.decode(response.content.removeprefix(b"\xef\xbb\xbf")))
    except RecursionError as exc:
        raise _unintelligible(response, where, "JSON is nested too deeply") from exc
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise _unintelligible(response, where, str(exc)) from exc


@lru_cache(maxsize=256)  # a decoder costs as much as decoding a page
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _unintelligible(response: Response, where: str, why: str) -> Unintelligible:
    return Unintelligible(
        where,
        f"{why[:_MESSAGE_CHARACTERS_MAX]}, of a body of {len(response.content)} bytes",
        "compare with the API's documentation",
    )
