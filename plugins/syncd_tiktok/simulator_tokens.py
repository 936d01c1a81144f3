"""The tokens of the simulated upstream: who is let in until when, and what is traded for the next.

Two regimes are known of the real one: access tokens of two hours whose refresh token changes with
each use (the older one is then dead), and of a day whose refresh token stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

import attrs

Regime = Literal["2h", "24h"]

_LIFETIMES: dict[Regime, tuple[int, int]] = {  # seconds: of access, of refresh
    "2h": (7_200, 180 * 86_400),
    "24h": (86_400, 365 * 86_400),
}

_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


@attrs.frozen
class Grant:
    """What a store has granted, as one pair of tokens says it."""

    store: str
    scopes: tuple[str, ...]
    access_token: str
    access_expires_at: datetime
    refresh_token: str
    refresh_expires_at: datetime

    def expires_in(self, now: datetime) -> tuple[int, int]:
        """Return for how many seconds access and refresh tokens are good."""
        left = (self.access_expires_at - now, self.refresh_expires_at - now)
        return int(left[0].total_seconds()), int(left[1].total_seconds())


class Tokens:
    """All grants, by their tokens."""

    def __init__(self, *, regime: Regime, now: Callable[[], datetime], seed: int = 0) -> None:
        self.regime: Regime = regime
        self.reused = 0  # how often a refresh token came that had been traded already
        self._now = now
        self._random = Random(f"tokens {seed}")  # noqa: S311 - no secret
        self._by_access: dict[str, Grant] = {}
        self._by_refresh: dict[str, Grant] = {}
        self._traded: set[str] = set()

    def grant(
        self, store: str, scopes: Collection[str], *, access_token: str | None = None
    ) -> Grant:
        """Let a store grant scopes, as its owner does in a browser.

        A given `access_token` never ends, nor does what comes with it.
        """
        if access_token is None:
            grant = self._made(store, tuple(scopes), refresh_token=self._text("rft"))
        else:
            grant = Grant(store, tuple(scopes), access_token, _NEVER, self._text("rft"), _NEVER)
        self._keep(grant)
        return grant

    def admitted(self, access_token: str) -> Grant | None:
        """Return what an access token stands for, if it is good."""
        grant = self._by_access.get(access_token)
        return grant if grant is not None and grant.access_expires_at > self._now() else None

    def refreshed(self, refresh_token: str) -> Grant | None:
        """Trade a refresh token for the next pair; none where it is not good (any more)."""
        grant = self._by_refresh.get(refresh_token)
        self.reused += refresh_token in self._traded
        if grant is None or grant.refresh_expires_at <= self._now():
            return None
        following = refresh_token
        if self.regime == "2h":
            del self._by_refresh[refresh_token]
            self._traded.add(refresh_token)
            following = self._text("rft")
        newer = self._made(grant.store, grant.scopes, refresh_token=following)
        self._keep(newer)
        return newer

    def revoke(self, store: str) -> None:
        """End all that a store has granted: its owner took it back, or was banned."""
        for known in (self._by_access, self._by_refresh):
            for token in [token for token, grant in known.items() if grant.store == store]:
                del known[token]

    def expire(self, store: str) -> None:
        """Let the access tokens of a store end now; refresh tokens stay good."""
        for token in [token for token, grant in self._by_access.items() if grant.store == store]:
            del self._by_access[token]

    def _made(self, store: str, scopes: tuple[str, ...], *, refresh_token: str) -> Grant:
        access_seconds, refresh_seconds = _LIFETIMES[self.regime]
        now = self._now()
        return Grant(
            store=store,
            scopes=scopes,
            access_token=self._text("act"),
            access_expires_at=now + timedelta(seconds=access_seconds),
            refresh_token=refresh_token,
            refresh_expires_at=now + timedelta(seconds=refresh_seconds),
        )

    def _keep(self, grant: Grant) -> None:
        self._by_access[grant.access_token] = grant
        self._by_refresh[grant.refresh_token] = grant

    def _text(self, kind: str) -> str:
        return f"{kind}.{self._random.getrandbits(128):032x}"
