"""Asking a plugin: every call of a function that it gave us, but for transforms (see `records`).

What it must not raise becomes an error that names it; what it must not take becomes one in time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import attrs
import trio

from syncd.border import Border, in_thread
from syncd.contract import (
    distinct,
    refuse_unfit_cursors,
    refuse_unfit_outcome,
    refuse_unfit_page,
    refuse_unfit_written,
    sealable,
)
from syncd.effects import refuse_unfit
from syncd.errors import PluginError, RecordError, Unavailable, sayable
from syncd.http import NotModified
from syncd.model import (
    Account,
    Check,
    Context,
    Credential,
    Dead,
    Deliver,
    Delivered,
    EffectKind,
    Instance,
    Outcome,
    Page,
    Partition,
    Pass,
    Queued,
    Quota,
    Refresh,
    Request,
    Retry,
    Secret,
    Slice,
    Upstream,
    Writer,
    Written,
)
from syncd.nodes import Node, children
from syncd.plugins import Pipeline
from syncd.records import encoded
from syncd.rows import Payloads
from syncd.store.translation import DRIVER_ERRORS, INTRANS

T = TypeVar("T")

FETCH_TIMEOUT_SECONDS = 900.0  # with every wait for the upstream's limit in it
CHECK_TIMEOUT_SECONDS = 60.0  # the same, of one request


async def asked(pipeline: Pipeline, context: Context[Any, Any], node: Node) -> Page:
    """Call the plugin's fetch.

    Raises: `SourceError` as the plugin says; `NotModified`, which the client says; `PluginError`
    for anything else that it raises, for taking too long, and for answering with no page.
    """
    where = f"{context.partition} {node}"
    what = f"fetch of plugin {pipeline.plugin}"
    with Border(where, what, (NotModified,)), trio.move_on_after(FETCH_TIMEOUT_SECONDS):
        page = await pipeline.fetch(context, node.cursor)
        return _a(Page, page, where, what)
    raise _late(where, what)


def opened(pipeline: Pipeline, node: Node, page: Page, where: str) -> tuple[Node, ...]:
    """Return the cursors that a page opens.

    Raises: `PluginError` for a page that is not made as pages are, and for records of streams that
    its feed does not have; `PagingLoop`.
    """
    with Border(where, f"the page of plugin {pipeline.plugin}"):
        streams = frozenset(stream.name for stream in pipeline.feed.streams)
        refuse_unfit_page(page, streams, where)
        return children(node, page, where)


def begun(pipeline: Pipeline, partition: Partition, request: Request, now: datetime) -> Pass:
    """Call the plugin's begin.

    Raises: `PluginError`, also for answering with no pass, or with a cursor that cannot be kept.
    """
    where, what = str(partition), f"begin for plugin {pipeline.plugin}"
    with Border(where, what):
        answered = _a(Pass, pipeline.begin(partition, request, now), where, what)
        refuse_unfit_cursors(answered.cursors, f"{where}: {what}")
        return answered


def upstream_of(instance: Instance[Any], account: Account[Any]) -> Upstream:
    """Ask a connector how to talk to an account.

    Raises: `PluginError`.
    """
    where = f"{instance.name}[{account.name}]"
    with in_thread(where, "upstream"):
        answer = _a(Upstream, instance.upstream(account), where, "upstream")
        for quota in answer.quotas:
            _a(Quota, quota, where, "a quota of upstream")
        for value in answer.headers.values():
            _a((str, Secret), value, where, "a header of upstream")
        return answer


async def sliced(pipeline: Pipeline, context: Context[Any, Any]) -> Sequence[Slice]:
    """Ask which slices of a feed there are; one that is told twice is there once.

    Raises: `SourceError` as the plugin says; `PluginError`, also for slices that cannot be kept.
    """
    if pipeline.partitions is None:
        return [Slice()]
    where, what = str(context.partition), f"partitions for plugin {pipeline.plugin}"
    with Border(where, what), trio.move_on_after(FETCH_TIMEOUT_SECONDS):
        slices = await pipeline.partitions(context)
        return distinct([_a(Slice, each, where, what) for each in slices], f"{where}: {what}")
    raise _late(where, what)


async def checked(check: Check, context: Context[Any, Any]) -> str:
    """Put a plugin's cheap question about an account.

    Raises: `SourceError` as the plugin says, `Unavailable` for no answer in time; `PluginError`.
    """
    where, what = f"{context.partition}", "check"
    with Border(where, what), trio.move_on_after(CHECK_TIMEOUT_SECONDS):
        return sayable(_a(str, await check(context), where, what))
    said = f"{what} took over {CHECK_TIMEOUT_SECONDS:.0f} s"
    raise Unavailable(where, said, "it is put again another day")


async def refreshed(
    refresh: Refresh, context: Context[Any, Any], credential: Credential
) -> Credential:
    """Trade a credential for the next one; deadlines are the caller's.

    Raises: `SourceError` as the plugin says; `PluginError`.
    """
    where, what = f"{context.partition}", "refresh"
    with Border(where, what):
        answer = _a(Credential, await refresh(context, credential), where, what)
        return sealable(answer, credential, where)


@asynccontextmanager
async def session(
    instance: str, lifespan: AbstractAsyncContextManager[object] | None
) -> AsyncIterator[object]:
    """Hold what a plugin keeps around all runs of an instance.

    Raises: `PluginError` where it cannot be entered, or left; what the block raises.
    """
    if lifespan is None:
        yield None
        return
    with Border(instance, "lifespan") as border:
        with trio.CancelScope(deadline=trio.current_time() + FETCH_TIMEOUT_SECONDS) as entering:
            async with lifespan as value:
                entering.deadline = math.inf
                try:
                    yield value
                finally:
                    border.inside = sys.exc_info()[1]  # ours, unless the session itself broke
        if entering.cancelled_caught:
            raise _late(instance, "lifespan")
    if border.inside is not None:  # else it would have come out
        said = "lifespan swallowed what ended the block within it"
        raise PluginError(instance, said, "mend the plugin")


def written(
    writer: Writer, connection: Any, rows: Sequence[Any], *, where: str, stream: str
) -> tuple[Written, Payloads]:
    """Let a plugin write rows, in the thread of the transaction; PostgreSQL's errors pass.

    Answers with what became of the rows, and with the effects that it said follow from them.

    Raises: `PluginError`, also for effects that cannot be, or are not of a kind it declares.
    """
    what = f"write of stream {stream}"
    with in_thread(where, what, *DRIVER_ERRORS):
        done = _a(Written, writer.function(connection, rows), where, what)
        refuse_unfit_written(done, where, what)
        if connection.info.transaction_status != INTRANS:
            said = f"{what} ended the transaction, which is not its own"
            raise PluginError(where, said, "mend the plugin")
        caused = tuple(done.effects)
    try:
        for effect in caused:
            refuse_unfit(effect, writer.effects, what)
        return attrs.evolve(done, effects=()), encoded(caused)
    except RecordError as error:
        raise PluginError(where, error.what, "mend the plugin") from error


def _a(kind: type[T] | tuple[type[T], ...], answer: object, where: str, what: str) -> T:
    if not isinstance(answer, kind):
        wanted = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        said = f"{what} answered with {type(answer).__name__}, not a {wanted}"
        raise PluginError(where, said, "mend the plugin")
    return answer


def _late(where: str, what: str) -> PluginError:
    return PluginError(where, f"{what} took over {FETCH_TIMEOUT_SECONDS:.0f} s", "mend the plugin")


async def delivered(
    deliver: Deliver, context: Context[Any, Any], kind: EffectKind, effects: Sequence[Queued]
) -> Mapping[int, Outcome]:
    """Hand effects to the plugin that delivers them; answer with what it says of each.

    Raises: `SourceError` as the plugin says, `Unavailable` for no answer in time; `PluginError`,
    also for answering with what is no outcome, or of what it was not given.
    """
    where, what = f"{context.partition.instance}.{kind.name}", "deliver"
    with Border(where, what), trio.move_on_after(kind.deadline_seconds):
        answer = await deliver(context, effects)
        _a(Mapping, answer, where, what)
        for outcome in answer.values():
            refuse_unfit_outcome(_a((Delivered, Retry, Dead), outcome, where, what), where)
        if strange := answer.keys() - {each.id for each in effects}:
            raise PluginError(
                where, f"{what} answered of {len(strange)} effect(s) it was not given"
            )
        return answer
    # Most likely its provider is silent, or asks for patience.
    said = f"{what} took over {kind.deadline_seconds:.0f} s"
    raise Unavailable(where, said, "what became of the effects is unknown; they are sent again")
