"""Credentials between the vault's keys and their rows: sealed for one account, opened for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs
import msgspec

from syncd.errors import ConfigError, Unauthorized
from syncd.model import Credential, Secret
from syncd.store.credentials import Owner, Row, Sealed
from syncd.vault import Vault

# A token is renewed when so much of its life is left: a request may wait for its turn for minutes.
# Of a short life less, or it would be renewed with every request.
MARGIN_SECONDS = 600.0
MARGIN_PART = 0.1

KIND = "credential"  # of sealed rows
REAUTH = "reauth_required"  # in the state, and in why an account is parked


class _Packed(msgspec.Struct, omit_defaults=True):
    """A credential as it is sealed."""

    access_token: str
    refresh_token: str | None = None
    access_expires_at: datetime | None = None
    refresh_expires_at: datetime | None = None
    details: Mapping[str, str] = {}


@attrs.frozen(repr=False)
class Kept:
    """A credential as a process keeps it in memory. `before`: until this one was let in once."""

    version: int
    credential: Credential
    before: Credential | None
    renew_at: datetime | None

    @property
    def secrets(self) -> list[Secret]:
        """Return what of it must stand in no message."""
        each = [self.credential, *([self.before] if self.before else [])]
        return [token for one in each for token in tokens_of(one)]

    def is_valid(self, now: datetime) -> bool:
        """Return whether the access token may still be used, as far as its moment tells."""
        expires_at = self.credential.access_expires_at
        return expires_at is None or now < expires_at


def tokens_of(credential: Credential) -> list[Secret]:
    """Return the tokens of a credential."""
    return [t for t in (credential.access_token, credential.refresh_token) if t is not None]


def sealed(vault: Vault, owner: Owner, credential: Credential) -> Sealed:
    """Seal a credential for its account.

    Raises: `ConfigError` where no key is configured.
    """
    refresh = credential.refresh_token
    packed = _Packed(
        credential.access_token.reveal(),
        refresh.reveal() if refresh is not None else None,
        credential.access_expires_at,
        credential.refresh_expires_at,
        credential.details,
    )
    return Sealed(
        vault.seal(msgspec.json.encode(packed).decode(), owner=row_name(owner)),
        renewable=refresh is not None,
        access_expires_at=credential.access_expires_at,
        refresh_expires_at=credential.refresh_expires_at if refresh is not None else None,
    )


def opened(vault: Vault, owner: Owner, row: Row | None) -> Kept:
    """Open what is stored for an account.

    Raises: `Unauthorized` where there is nothing, or the provider takes it no more; `ConfigError`
    where no key opens it.
    """
    where = str(owner)
    do = f"run `syncd credentials import {owner.instance} FILE.csv` with another"
    if row is None:
        raise Unauthorized(where, f"{REAUTH}: there is no credential in the vault", do)
    if row.state != "ok":
        raise Unauthorized(where, f"{REAUTH}: {row.reason}", do)
    credential = _opened(vault, owner, row.sealed)
    before = _opened(vault, owner, row.sealed_before) if row.sealed_before is not None else None
    return Kept(row.version, credential, before, renew_at(credential, row.stored_at))


def renew_at(credential: Credential, stored_at: datetime) -> datetime | None:
    """Return when to renew a credential; `None` where it cannot be, or nobody knows when it ends.

    `stored_at` stands for the beginning of its life, which providers do not tell.
    """
    expires_at = credential.access_expires_at
    if expires_at is None or credential.refresh_token is None:
        return None
    life_seconds = max((expires_at - stored_at).total_seconds(), 0.0)
    return expires_at - timedelta(seconds=min(MARGIN_SECONDS, MARGIN_PART * life_seconds))


def row_name(owner: Owner) -> str:
    """Name the row that a sealed credential belongs to."""
    return f"{KIND} {owner.instance}/{owner.account}"


def _opened(vault: Vault, owner: Owner, blob: bytes) -> Credential:
    name = row_name(owner)
    try:
        packed = msgspec.json.decode(vault.reveal(blob, owner=name).reveal(), type=_Packed)
    except msgspec.DecodeError:
        raise ConfigError(name, "is sealed by a newer syncd", "install that one") from None
    return Credential(
        Secret(packed.access_token),
        Secret(packed.refresh_token) if packed.refresh_token is not None else None,
        packed.access_expires_at,
        packed.refresh_expires_at,
        packed.details,
    )
