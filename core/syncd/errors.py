"""What can go wrong: whose side it is on, and what happens next.

Every error reads ``where: what happened; what to do``: the message is for the operator, never holds
a secret, and carries the value and its unit. `details` goes to the event, `__cause__` to us. The
capital word in a docstring is the consequence; it is decided in one place, `progress.after`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs


def sayable(text: str) -> str:
    r"""Return a text that can be stored and shown: NUL is ``\x00``, a lone surrogate ``\ud800``.

    PostgreSQL's text has no NUL, and UTF-8 no lone surrogate; what JSON says may have both.
    """
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


WAIT_MAX_SECONDS = 366 * 86400.0


def is_wait(seconds: object) -> bool:
    """Say whether these are seconds that can be waited for; not so what a plugin took for some."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return 0 <= seconds <= WAIT_MAX_SECONDS


class SyncdError(Exception):
    """Something went wrong that syncd has a decided consequence for."""

    def __init__(self, where: str, what: str, do: str = "", **details: Any) -> None:
        super().__init__(where, what, do)
        self.where = where
        self.what = what
        self.do = do
        self.details: Mapping[str, Any] = details

    def __str__(self) -> str:
        said = f"{self.where}: {self.what}"
        return sayable(f"{said}; {self.do}" if self.do else said)


class ConfigError(SyncdError):
    """STOP: the operator must change something; exit code 78, before any run begins."""


@attrs.frozen
class Problem:
    """One thing that is wrong in a configuration file."""

    key: str  # dotted path, e.g. "jobs.cars.every"; "" for the file itself
    what: str  # what was found, and what was wanted


class InvalidConfig(ConfigError):
    """STOP: the configuration has problems; all of them are listed at once."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        listed = "\n".join(f"  {p.key or '(file)'}: {p.what}" for p in self.problems)
        count = len(self.problems)
        super().__init__(
            file,
            f"{count} problem{'s' if count != 1 else ''}\n{listed}",
            "",
        )


class HookError(ConfigError):
    """STOP: a hook is unclaimed, contested, misspelt, or has the wrong signature."""


class IncompatibleSchema(ConfigError):
    """STOP: the control tables are newer than this program, or must be migrated first."""


class SourceError(SyncdError):
    """The API's side."""


class Throttled(SourceError):
    """SNOOZE: the upstream asked us to wait longer than is worth waiting for in a run."""

    def __init__(self, where: str, what: str, do: str = "", *, retry_after_seconds: float) -> None:
        super().__init__(where, what, do, retry_after_seconds=retry_after_seconds)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(SourceError):
    """RETRY with backoff: no connection, a timeout, or a server error (5xx)."""


class Unauthorized(SourceError):
    """PARK the account: the credential is refused, and retrying would only lock it."""


class Unintelligible(SourceError):
    """The answer does not have the documented shape: its cursor is kept and tried again later."""


class Deferred(SourceError):
    """RETRY the cursor: another API cannot answer for a record of its page yet.

    It is the upstream's trouble as little as the plugin's: nothing is parked for it.
    """

    def __init__(
        self, where: str, what: str, do: str = "", *, wait_seconds: float | None = None
    ) -> None:
        super().__init__(where, what, do)
        self.wait_seconds = wait_seconds or 0.0  # at least


class PagingLoop(SourceError):
    """FAIL the pass: the feed never ends; it is past a budget, or brings nothing new."""


class CursorExpired(SourceError):
    """SUPERSEDE the pass: the upstream forgot its cursors; begin anew from the watermark."""


class RecordError(SyncdError):
    """QUARANTINE one record: it cannot be decoded, transformed or stored; the run goes on."""


class StoreError(SyncdError):
    """PostgreSQL's side."""


class LeaseLost(StoreError):
    """ABANDON: another daemon holds a newer lease; nothing was written."""


class FrontierMoved(StoreError):
    """RELOAD: a page's cursor was no longer open; the batch was rolled back."""


class Held(StoreError):
    """REFUSE: what an operator wants to change is in use by a process; nothing was written."""


class Refused(StoreError):
    """REFUSE: what an operator wants would do harm, or cannot be done; nothing was written."""


class StoreUnavailable(StoreError):
    """RETRY with backoff: PostgreSQL cannot be reached, or refuses to work right now."""


class StoreExhausted(StoreUnavailable):
    """SNOOZE for long: PostgreSQL lacks room, memory or connections, or is read-only."""


class StatementTimeout(StoreError):
    """HALVE the batch: a statement took too long. One page alone FAILS the run, and stays open.

    No record is set aside for it: a timeout says that something is slow (a lock, a trigger, the
    disk), and not that a record is bad.
    """


class CommitUnknown(StoreError):
    """ABANDON: the connection was lost in COMMIT; what happened is read back under a new lease."""


class StoreRefused(StoreError):
    """PARK the partition: PostgreSQL refuses by configuration (permission, missing object)."""


class CommitRefused(StoreRefused):
    """BISECT: a constraint that is checked at COMMIT refuses a row; `table` says of which."""

    def __init__(
        self,
        where: str,
        what: str,
        do: str = "",
        *,
        table: tuple[str, str] = ("", ""),
        **details: Any,
    ) -> None:
        super().__init__(where, what, do, **details)
        self.table = table  # schema and name


class PluginError(SyncdError):
    """A plugin raised what it must not: the cursor fails; the plugin, hook and cause are named."""


@attrs.frozen
class Rejected:
    """A record on its way to quarantine, with the reason that sends it there."""

    stream: str
    reason: str  # decode | transform | key | dump | refused
    message: str
    raw: bytes | None  # the record as the upstream sent it, where known
    key: str | None  # its key as JSON, where it could be read
    version: int | None = None  # what `_syncd_version` would have been
    cursor: str | None = None
    seen_at: datetime | None = None
    parent: Mapping[str, Any] | None = None  # the values its surroundings gave
    sent_at: datetime | None = None  # when the request left that brought it
    raw_bytes: int | None = None  # of the record as it came, where `raw` is not all of that
    raw_hash: bytes | None = None  # the same
    place: int | None = None  # of its row in the batch, where it had become one
