"""The simulator of the NPI registry, answering in virtual time, and a judge before it.

It is the object that answers for the simulator that ships with the connector: it waits for nothing,
so that one request is one step. How long an answer takes is told here, by the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import format_datetime

from inline import now
from judge import Allowed, Judge
from transport import Answer, Asked

from syncd_nppes.simulator_answers import Registry
from syncd_nppes.simulator_providers import invented

HOST = "npiregistry.test"
SPECIALTY = "Internal Medicine"
TRUTH = "SELECT npi FROM nppes.providers"


class Nppes:
    """The upstream: so many providers of one specialty; `seconds` of an answer by its `skip`."""

    def __init__(
        self, providers: int, *, allowed: Allowed | None, seconds: Mapping[int, float]
    ) -> None:
        self.registry = Registry(invented(providers, seed=1, specialties=[SPECIALTY]))
        self.judge = Judge("api", allowed)
        self.judges: Mapping[str, Judge] = {"api": self.judge}
        self._seconds = seconds
        self._ends: list[float] = []

    def answer(self, asked: Asked) -> Answer:
        if not self.judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            return Answer(429, b"", {"content-type": "text/html"})
        seconds = self._seconds.get(int(asked.query.get("skip", 0)), 1.0)
        self._ends = [end for end in self._ends if end > asked.at] + [asked.at + seconds]
        self.judge.in_flight_max = max(self.judge.in_flight_max, len(self._ends))
        reply = self.registry.answer(asked.query)
        headers = {"content-type": reply.media_type, "date": format_datetime(now(), usegmt=True)}
        return Answer(reply.status, reply.body, {**headers, **reply.headers}, seconds)
