"""`syncd park`: what is set aside, and how it is said."""

from __future__ import annotations

from typing import Any

import attrs

from syncd.cli import wording
from syncd.model import Instance
from syncd.store import parking, registry
from syncd.store.hops import Connection
from syncd.store.parking import Parked
from syncd.store.selection import Selection

NAMED_MAX = 20  # that are named one by one; `--json` names all


@attrs.frozen
class Asked:
    """What is to be set aside of an instance, and why."""

    instance: Instance[Any]
    account: str | None
    feed: str | None
    slice: str | None
    reason: str


def park(connection: Connection, asked: Asked) -> Parked:
    """Set accounts aside, or partitions where a feed or a slice is named. One transaction."""
    name = asked.instance.name
    if asked.feed is None and asked.slice is None:
        registry.register_instance(connection, asked.instance)  # also accounts that never ran
        return parking.park_accounts(connection, name, asked.account, asked.reason)
    which = Selection(name, asked.account, asked.feed, asked.slice)
    return parking.park_partitions(connection, which, asked.reason)


def said(parked: Parked) -> str:
    """Say what was set aside."""
    lines = []
    for noun, names in (("account", parked.accounts), ("partition", parked.partitions)):
        if names:
            some = wording.listed(names, most=NAMED_MAX)
            lines.append(f"parked {wording.counted(len(names), noun)}: {some}")
    if not lines:
        return "nothing was parked: what matches is parked already, or has never run"
    if parked.running:
        runs = wording.counted(parked.running, "partition")
        lines.append(f"{runs} of it runs just now, and goes on to the end of its run")
    return "\n".join(lines)
