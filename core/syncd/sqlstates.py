"""What PostgreSQL's errors mean to us: one table of SQLSTATE classes and reactions. Pure.

Source: PostgreSQL documentation, Appendix A, "PostgreSQL Error Codes". The bulk writer asks here
whose fault an error is, the hop whether to try again; `progress.after` goes by the error's class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

import attrs

from syncd.backoff import full_jitter

Reaction = Literal["retry", "reconnect", "smaller", "record", "wait", "refuse"]

REACTIONS: Final[dict[Reaction, str]] = {
    "retry": "the whole transaction again, at most five times, with jitter",
    "reconnect": "the whole transaction again on another connection; in COMMIT: unknown outcome",
    "smaller": "half of the batch; where that is one page, the run fails",
    "record": "the batch is searched for the records at fault, which are set aside",
    "wait": "nothing is claimed, an operator is told, and a run's partition waits for long",
    "refuse": "the partition is parked: trying again would change nothing",
}


@attrs.frozen
class Row:
    """A SQLSTATE, or the two characters of a class: a whole code goes before its class."""

    states: str
    reaction: Reaction
    means: str


TABLE: Final = (
    Row("08", "reconnect", "connection exception; a pooler's own errors, too"),
    Row("22", "record", "data exception"),
    Row("23", "record", "integrity constraint violation"),
    Row("25", "refuse", "invalid transaction state"),
    Row("25006", "wait", "read-only: a standby, or a server that was made so"),
    Row("25P03", "reconnect", "idle in transaction for too long: the server cut us off"),
    Row("25P04", "reconnect", "transaction timeout: the server cut us off"),
    Row("28", "refuse", "invalid authorization"),
    Row("3D", "refuse", "no such database"),
    Row("3F", "refuse", "no such schema"),
    Row("40", "retry", "transaction rollback: serialization failure, deadlock"),
    Row("42", "refuse", "syntax error or access rule violation"),
    Row("53", "wait", "insufficient resources: disk full, out of memory, too many connections"),
    Row("54000", "record", "a key too long for its index, a document too large for jsonb"),
    Row("55P03", "retry", "lock timeout"),
    Row("57", "reconnect", "operator intervention: shutdown, crash, starting up"),
    Row("57014", "smaller", "statement timeout, or cancelled at our own deadline"),
    Row("57P04", "refuse", "the database was dropped"),
    Row("58", "wait", "system error: input or output failed"),
    Row("XX000", "wait", "internal error: of the server, and often gone the next time"),
)
_BY_STATES: Final = {row.states: row.reaction for row in TABLE}


def reaction(sqlstate: str | None) -> Reaction:
    """Decide what an error means; one without a state is a lost connection.

    What the table does not name (a function of the operator's that raises, damaged storage) is
    refused: a human must look.
    """
    if sqlstate is None:
        return "reconnect"
    return _BY_STATES.get(sqlstate) or _BY_STATES.get(sqlstate[:2], "refuse")


Work = TypeVar("Work", bound=Callable[..., Any])


def repeatable(work: Work) -> Work:
    """Mark a transaction that may happen twice: it only reads, or does the same once more.

    Its COMMIT of unknown outcome is no matter, and it is tried again.
    """
    work.__dict__["repeatable"] = True
    return work


def is_repeatable(work: Callable[..., Any]) -> bool:
    return getattr(work, "repeatable", False) is True


ATTEMPTS_MAX = 5  # of one transaction that others' locks or commits are in the way of
RETRY_BASE_SECONDS = 0.1
RETRY_CAP_SECONDS = 2.0  # a server that is back is found within it


def pause(
    then: Reaction,
    *,
    attempts: int,
    failing_seconds: float,
    patience_seconds: float,
    chance: float,
) -> float | None:
    """Return how long to wait before a transaction is tried again; `None`: it is not.

    `attempts` of this kind were made, the last one included; the first one failed
    `failing_seconds` ago. A transaction that never came to its COMMIT is safe to repeat.
    """
    match then:
        case "retry":
            if attempts >= ATTEMPTS_MAX:
                return None
        case "reconnect":
            if failing_seconds >= patience_seconds:
                return None
        case _:
            return None
    return full_jitter(
        attempts, base_seconds=RETRY_BASE_SECONDS, cap_seconds=RETRY_CAP_SECONDS, chance=chance
    )
