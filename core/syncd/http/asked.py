"""What a plugin asks for, before it is known where that is and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import attrs
import msgspec

from syncd.http.masking import secrets_of
from syncd.http.wire import Method
from syncd.limits import ONE_REQUEST
from syncd.model import JSON, REQUESTS, Secret


@attrs.frozen(repr=False)  # its parameters and its body may hold secrets
class Asked:
    """One request as a plugin wants it: see `model.Http`."""

    url: str
    params: Mapping[str, str | int] | None
    quota: str | None
    cost: Mapping[str, int] | None
    accept: str
    also: frozenset[int]
    method: Method = "GET"
    body: bytes = b""
    secrets: tuple[str, ...] = ()  # in the body
    media: str = "application/json"  # of the body
    once: bool = False  # not to be sent again once it may have been carried out
    timeout_seconds: float | None = None  # in place of the upstream's

    @property
    def costs(self) -> Mapping[str, int]:
        """Return what the request takes of its quota, by unit."""
        return ONE_REQUEST if self.cost is None else {REQUESTS: 1, **self.cost}

    def waits(self, default_seconds: float) -> float:
        """Return the seconds that its answer may take."""
        return default_seconds if self.timeout_seconds is None else self.timeout_seconds


def json_body(value: JSON) -> tuple[bytes, tuple[str, ...]]:
    """Return a body, and the texts in it that are secrets by their name."""
    named = value.items() if isinstance(value, Mapping) else ()
    texts = {name: text for name, text in named if isinstance(text, str)}
    return msgspec.json.encode(value), secrets_of(texts)


def form_body(form: Mapping[str, str | Secret]) -> tuple[bytes, tuple[str, ...]]:
    """Return a form's body, and the texts in it that are secrets."""
    plain = {
        name: value.reveal() if isinstance(value, Secret) else value for name, value in form.items()
    }
    return urlencode(plain).encode("ascii"), secrets_of(form)
