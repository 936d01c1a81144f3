"""An account's credential where it changes by itself: OAuth's tokens (RFC 6749)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import attrs

from syncd.model.secret import Secret


@attrs.frozen
class Credential:
    """What an account is let in with now, and what is traded for the next one.

    `refresh_token` is `None` where the provider gives none: the access token is then used until it
    expires. Moments that the provider does not tell are `None`. `details` are what the connector
    needs beside them (an ``open_id``); they are sealed with the tokens, and shown nowhere either.
    """

    access_token: Secret
    refresh_token: Secret | None = None
    access_expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    details: Mapping[str, str] = attrs.field(factory=dict, repr=False)
