"""What no pass needs any more: deleted at the end of a run, some rows at a time."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from syncd.sqlstates import repeatable
from syncd.store import absences, passes, validators
from syncd.store.hops import Connection
from syncd.store.leases import Lease


@attrs.frozen
class Told:
    """What a full pass that ended has told: which rows its records stand for, which pages it met.

    `judged`: the streams whose keys still tell whose records are gone. `met`: the pass, where the
    validators of pages that it did not meet are of no use any more.
    """

    judged: Collection[str]
    met: int | None


@repeatable
def forget(connection: Connection, lease: Lease, told: Told | None) -> bool:
    """Delete what is of no use, in one transaction; answer whether there may be more.

    Closed cursors of ended passes always, keys and validators after a full pass that ended.
    """
    full = passes.forget(connection, lease) == passes.FORGET_AT_ONCE
    if told is not None:
        keys = absences.forget(connection, lease, told.judged)
        full |= keys == absences.FORGET_AT_ONCE
        if told.met is not None:
            pages = validators.forget(connection, lease, told.met)
            full |= pages == validators.FORGET_AT_ONCE
    return full
