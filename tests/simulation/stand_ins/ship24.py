"""The simulator of Ship24, answering in virtual time, and a strict judge before its bulks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import psycopg
from inline import now
from judge import Allowed, Judge
from transport import Answer, Asked

from syncd.store import effects
from syncd.store.effects import Posting
from syncd.store.hops import Timeouts, connection_options
from syncd.testing import Call
from syncd_ship24.plugin import BULK, BULKS_PER_SECOND, REGISTER
from syncd_ship24.simulator import API_KEY, PREFIX, Ship24

HOST = "api.ship24.test"
ALLOWED = Allowed("sliding", BULKS_PER_SECOND, 1.0)
DELIVERED = "SELECT count(*) FROM syncd.effect WHERE state = 'delivered'"

Mode = Literal["up", "slow", "down"]


class Upstream:
    """Ship24, which answers after `seconds`; ``"slow"``: half a minute, ``"down"``: never well."""

    def __init__(self, *, mode: Mode = "up", seconds: float = 0.05) -> None:
        self.ship24 = Ship24(now=now, seconds=seconds)
        self.ship24.mode = mode
        self.judge = Judge(BULK, ALLOWED)
        self.judges: Mapping[str, Judge] = {BULK: self.judge}

    def answer(self, asked: Asked) -> Answer:
        if not self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return Answer(429, b"Too Many Requests", {"retry-after": "1"})
        path = asked.path.removeprefix(PREFIX)
        call = Call(asked.method, path, asked.query, asked.headers, asked.body)
        reply = self.ship24.answer(call)
        return Answer(reply.status, reply.body, reply.headers, reply.seconds)


def configuration() -> str:
    """Write the connector's table."""
    return f'[connectors.ship24]\nbase_url = "https://{HOST}{PREFIX}"\napi_key = "{API_KEY}"\n'


def enqueue(dsn: str, count: int) -> None:
    """Queue registrations of so many trackers, as commits of rows have done before."""
    with psycopg.connect(dsn, **connection_options(Timeouts(), "operator")) as connection:
        connection.execute("SELECT set_config('simulated.now', %s, true)", (now().isoformat(),))
        effects.enqueue(connection, [_posting(number) for number in range(count)], ordered=False)


def _posting(number: int) -> Posting:
    name = f"1Z{number:016d}"
    return Posting(
        instance="ship24",
        account="default",
        kind=REGISTER.name,
        key=name,
        payload=f'{{"trackingNumber":"{name}"}}',
        ordering_key=None,
        delay_seconds=0.0,
        source="mail.shipments",
        row_version=None,
    )
