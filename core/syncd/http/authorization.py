"""How requests are let in by a credential that changes: which fields, and whom to ask for newer.

The credential itself is kept above (`syncd.credentials`); the client asks for it before each
sending, so that a request which waited for its turn goes out with what is valid then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from syncd.http.headers import plain_fields
from syncd.http.masking import longest_first, secrets_of
from syncd.model import Credential, Secret


@attrs.frozen(repr=False)  # it is made of secrets
class Badge:
    """What lets requests in: header fields by one version of a credential.

    `secrets` are the texts by which that credential, and the one before, could be recognised.
    """

    version: int
    fields: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    credential: Credential | None = None  # for a plugin that asks for it

    @classmethod
    def of(
        cls,
        where: str,
        version: int,
        fields: Mapping[str, str | Secret],
        *secrets: Secret,
        credential: Credential | None = None,
    ) -> Badge:
        """Make the badge of a credential's header fields and its tokens.

        Raises: `ConfigError` for a field that cannot be sent.
        """
        named = {f"token {number}": each for number, each in enumerate(secrets)}
        texts = secrets_of(fields) + secrets_of(named)
        return cls(version, plain_fields(where, fields), longest_first(texts), credential)


class Authority(Protocol):
    """Who knows the credential of one account."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must stand in no message, as far as they are known."""
        ...

    async def badge(self) -> Badge:
        """Return what is valid now, renewed where it is about to expire.

        Raises: `Unauthorized` where there is none, and a person must see to it; what renewing it
        raises.
        """
        ...

    async def newer(self, refused: Badge) -> Badge | None:
        """Return another than the one that was refused; `None` where none is to be had.

        Raises: as `badge`.
        """
        ...

    async def accepted(self, badge: Badge) -> None:
        """Take note that a request was let in."""
        ...
