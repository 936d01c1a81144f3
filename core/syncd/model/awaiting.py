"""Transforms that await: another API is asked about a page's records, and answers for each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import attrs

from syncd.model.functions import Context


@attrs.frozen
class Done:
    """The record to go on with; `None` drops it, a list splits it, as with a `Transform`."""

    value: Any


@attrs.frozen
class Quarantined:
    """The record cannot be answered for, now or later: it waits in quarantine with this reason."""

    reason: str


@attrs.frozen
class Later:
    """The record may be answered for later (a timeout, a 429, an answer that made no sense).

    The page's cursor fails retryably, as if it could not have been fetched, and nothing of the page
    is written. `seconds` is the least wait, where the other side named one.
    """

    reason: str
    seconds: float | None = None


Await: TypeAlias = Callable[
    ["Context[Any, Any]", Sequence[Any]], Awaitable[Sequence["Done | Quarantined | Later"]]
]


@attrs.frozen
class AsyncTransform:
    """An async function of one page's records of a stream, with a name and a version.

    `function` is given the context and the records, and answers with one `Done`, `Quarantined` or
    `Later` for each, in their order. It runs after the page was fetched and before it is batched.
    A stream has one at most; transforms of a lower `order` run before it, the others after.
    A record that it answered for with `Done` or `Quarantined` is not handed to it again once that
    is committed, while all that it was handed (but for volatile fields) and how rows
    are made of it (`version`, the `settings` of the instance that are named) stay as they were.
    `key` names the fields by which a record is known (default: those of the stream's key), as it is
    handed over. `volatile` names fields of that which answers do not depend on: where only they
    changed, nothing is asked, and the row shows them with the next answer. ``--verify`` asks about
    every record.

    `deadline_seconds` holds for all records of a page together, with every wait for a limit of the
    other API in it; past it the page fails as by `Later`. `ctx.http` is the account's: an absolute
    address reaches another API that the connector's upstream names, through a quota of its own.
    """

    name: str
    version: int
    function: Await
    order: int = 0
    effects: tuple[str, ...] = ()  # kinds of effects that its records may bring along
    settings: tuple[str, ...] = ()  # of the instance: those that the answers depend on
    key: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    deadline_seconds: float = 900.0
