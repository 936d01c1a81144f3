"""The ledger of shared quotas in Redis or Valkey: each ask is one script, by the server's clock.

An extra (`pip install 'syncd[redis]'`): coredis stands on anyio, and so runs natively on Trio.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from types import ModuleType
from typing import Any, Protocol

from syncd.errors import ConfigError, StoreUnavailable
from syncd.limits import ledger
from syncd.limits.ledger import Ask, Block, Grant
from syncd.model import Secret

PREFIX = "syncd:quota:"

# Longer than the longest window that may be configured; a key that is not used goes by itself.
KEEP_SECONDS = 32 * 86400

# The accountant has given up by then; a connection that fell silent is not kept.
SILENCE_SECONDS = 2.0


class Reserve(Protocol):
    """Asks the server.

    Raises: `StoreUnavailable`, where it does not answer.
    """

    async def __call__(
        self, asks: Sequence[Ask], *, now: float | None = None
    ) -> Sequence[Grant]: ...


@asynccontextmanager
async def opened(url: Secret) -> AsyncIterator[Reserve]:
    """Give the function that asks the server; it connects when it is asked.

    Raises: `ConfigError` without the extra, or where the address is none.
    """
    coredis = _coredis()
    script = resources.files("syncd_schemas").joinpath("scripts", "quota.lua").read_text("utf-8")
    client = _client(coredis, url)
    async with client:
        registered = client.register_script(script)

        async def reserve(asks: Sequence[Ask], *, now: float | None = None) -> Sequence[Grant]:
            try:
                return [
                    grant_of(await registered(keys=[PREFIX + ask.key], args=[words_of(ask, now)]))
                    for ask in asks
                ]
            except (coredis.exceptions.RedisError, OSError) as error:
                raise _unavailable(error) from error

        yield reserve


def require(url: Secret) -> None:
    """See that the server could be asked; nothing is connected yet.

    Raises: as `opened`.
    """
    _client(_coredis(), url)


async def ping(url: Secret) -> None:
    """See that the server answers.

    Raises: as `opened`, and `StoreUnavailable`.
    """
    coredis = _coredis()
    async with _client(coredis, url) as client:
        try:
            await client.ping()
        except (coredis.exceptions.RedisError, OSError) as error:
            failure = _unavailable(error)
        else:
            return
    raise failure  # behind the client's own tasks, which would wrap it


def _client(coredis: ModuleType, url: Secret) -> Any:
    try:
        return coredis.Redis.from_url(
            url.reveal(),
            stream_timeout=SILENCE_SECONDS,
            connect_timeout=SILENCE_SECONDS,
            retry_policy=coredis.retry.NoRetryPolicy(),
        )
    except (ValueError, coredis.exceptions.RedisError):
        what, do = "is no address of a Redis", "write redis://USER:PASSWORD@HOST:PORT/NUMBER"
        raise ConfigError("quota.shared", what, do) from None  # its text may repeat the password


def _unavailable(error: Exception) -> StoreUnavailable:
    # Its kind, and not its text: that may repeat what was sent.
    what = f"does not answer ({type(error).__name__})"
    return StoreUnavailable("ledger of quotas", what, "is Redis reachable?")


def _coredis() -> ModuleType:
    try:
        import coredis  # noqa: PLC0415  # an extra
        import coredis.retry  # noqa: PLC0415
    except ImportError as error:
        do = "run `pip install 'syncd[redis]'`, or share through postgres"
        raise ConfigError("quota.shared", "coredis is not installed", do) from error
    return coredis


def words_of(ask: Ask, now: float | None = None) -> str:
    """Say an ask as the script reads it."""
    return json.dumps(
        {
            "law": {**ledger.LAW, "keep_seconds": KEEP_SECONDS},
            "now": now,
            "asker": ask.asker,
            "lock_seconds": ask.lock_seconds,
            "refusals": ask.refusals,
            "daemons": ask.daemons,
            "empty": ask.empty,
            "leaves": ask.leaves,
            "wants": [
                {
                    "name": want.lane.name,
                    "interval": want.lane.interval_seconds,
                    "saved": want.lane.saved_seconds,
                    "guard": want.lane.guard_seconds,
                    "least_block": want.lane.least,
                    "count": want.count,
                    "least": want.least,
                    "held": want.held,
                }
                for want in ask.wants
            ],
        }
    )


def grant_of(said: bytes | str) -> Grant:
    """Read what the script answers."""
    at, locked_until, refusals, sharers, blocks = json.loads(said)
    return Grant(
        at=float(at),
        locked_seconds=max(float(locked_until) - float(at), 0.0),
        refusals=int(refusals),
        sharers=int(sharers),
        blocks={
            name: Block(float(begins_at), int(count), float(interval))
            for name, begins_at, count, interval in blocks or ()
        },
    )
