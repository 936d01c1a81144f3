"""A refusal comes back sooner than an answer, and tells nothing of how long answers take."""

from __future__ import annotations

from syncd.limits import ONE_REQUEST, Gate
from syncd.model import Quota, TokenBucket

ANSWER_SECONDS = 0.5
REFUSAL_SECONDS = 0.1


def ask(gate: Gate, now: float, *, refused: bool = False) -> float:
    """Send one request at this moment, let its answer come, and say when the next may leave."""
    ticket = gate.leave(ONE_REQUEST, now=now)
    at = now + (REFUSAL_SECONDS if refused else ANSWER_SECONDS)
    gate.arrived(ticket, now=at, refused=refused)
    gate.ended(ticket, now=at)
    return gate.opens_at(ONE_REQUEST, now=at)


def test_after_a_refusal_the_pace_is_what_it_was() -> None:
    gate = Gate(Quota("account", TokenBucket(1, per_seconds=1.0)))
    now = 0.0
    for _ in range(100):
        now = ask(gate, now)
    before = ask(gate, now) - now
    now = ask(gate, now + before, refused=True)

    assert ask(gate, now) - now == before
