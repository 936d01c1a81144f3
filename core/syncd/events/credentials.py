"""Credentials: renewed, refused, about to expire. No token is ever in an event."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


@attrs.frozen
class CredentialRenewed(Event):
    """An account's tokens were traded for new ones, which are stored. `seconds`: they are valid."""

    name = "credential.renewed"
    instance: str
    account: str
    version: int
    seconds: float | None


@attrs.frozen
class CredentialPostponed(Event):
    """The provider could not be asked; the access token is used as long as it is valid."""

    name = "credential.postponed"
    level = "warning"
    instance: str
    account: str
    error: str


@attrs.frozen
class CredentialRefused(Event):
    """The provider takes an account's refresh token no more: a person must let syncd in again.

    The account is parked; the others go on.
    """

    name = "credential.refused"
    level = "error"
    instance: str
    account: str
    reason: str


@attrs.frozen
class CredentialExpiring(Event):
    """A credential that only a person can renew ends soon. Said once a day."""

    name = "credential.expiring"
    level = "warning"
    instance: str
    account: str
    what: str  # refresh token, access token, configured credential
    seconds_left: float
