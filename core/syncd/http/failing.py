"""What a failed request means to whoever asked: the error, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from syncd.errors import CursorExpired, SourceError, Unauthorized, Unavailable, Unintelligible
from syncd.http.answer import Failure, Reason
from syncd.http.call import Call
from syncd.http.masking import masked

_MESSAGE_CHARACTERS_MAX = 500

_ERRORS: Mapping[Reason, tuple[type[SourceError], str]] = {
    "unavailable": (Unavailable, "nothing to do unless it lasts"),
    "unauthorized": (Unauthorized, "renew the credential, then resume the account"),
    "unintelligible": (Unintelligible, "compare with the API's documentation and the settings"),
    "misdirected": (
        Unavailable,  # a name server may be wrong for a while, as behind a captive portal
        "set private_network = true for this connector if the API is in your own network",
    ),
    "expired": (CursorExpired, "nothing to do: the pass begins anew"),
}


def error_of(call: Call, failure: Failure, note: str = "") -> SourceError:
    """Return a failure as what is raised, without a secret in it."""
    kind, do = _ERRORS[failure.reason]
    what = masked(failure.what, call.expected.secrets)[:_MESSAGE_CHARACTERS_MAX]
    attempts = f" ({call.failures} attempts)" if call.failures > 1 else ""
    return kind(
        call.where,
        f"{what}{attempts}{note}",
        do,
        status=failure.status,
        attempts=call.failures,
    )
