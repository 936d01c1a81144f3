"""What a derived stream may say, and which of them joins a job's round. Pure.

A derived stream is made of other streams' rows, in the database: its feed has one cursor and asks
nothing of the upstream. What says how pages are fetched says nothing here, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from string import Formatter
from typing import Any, Final

from syncd.errors import HookError, PluginError
from syncd.model import (
    Connector,
    Context,
    Cursor,
    Derivation,
    Feed,
    Instance,
    Page,
    Partition,
    Pass,
    Request,
    Stream,
)

CURSOR: Final = Cursor("derive")  # the one of every derived pass
ACCOUNT: Final = "account"  # the parameter that the core gives: whose rows a partition makes


def begin(_: Partition, request: Request, __: datetime) -> Pass:
    """Begin a derived pass."""
    return Pass(request.mode, (CURSOR,))


async def fetch(context: Context[Any, Any], _: Cursor) -> Page:
    """Refuse to fetch: nobody asks an upstream for derived rows.

    Raises: `PluginError`.
    """
    raise PluginError(str(context.partition), "a derived stream has no pages", "report this")


def pieces(select: str) -> Iterator[tuple[str, str | None]]:
    """Yield the statement piece by piece: some text, then the stream whose table follows it.

    Raises: `ValueError` where braces are left open, or hold more than a name.
    """
    for text, name, format_spec, conversion in Formatter().parse(select):
        if name == "" or format_spec or conversion:
            raise ValueError("braces hold the name of a stream; a brace of its own is doubled")
        yield text, name


def only_stream(instance: Instance[Any], feed: Feed) -> Stream:
    """Return the stream of a derived feed.

    Raises: `HookError` for what means something only where pages are fetched.
    """
    where = f"{instance.name}.{feed.name}"
    if len(feed.streams) != 1:
        said = f"a derived feed has one stream, and this one has {len(feed.streams)}"
        raise HookError(where, said, "declare a feed for each")
    (stream,) = feed.streams
    meaningless = {
        'paging = "numbered"': feed.paging != "chain",
        "incremental": feed.incremental,
        "conditional": feed.conditional,
        "version": stream.version is not None,
        "redact": bool(stream.redact),
        "on_absent": instance.on_absent.get(stream.name, stream.on_absent) != "keep",
    }
    if named := [name for name, is_said in meaningless.items() if is_said]:
        what = f"{', '.join(named)}: means nothing for the derived stream {stream.name!r}"
        raise HookError(where, what, "leave it out")
    return stream


def refuse_wrong(where: str, connector: Connector, answer: object) -> None:
    """Refuse an answer of `derive` that cannot be bound to the tables of an instance.

    Raises: `HookError`.
    """
    if not isinstance(answer, Derivation):
        raise HookError(where, f"answered with {type(answer).__name__}", "return a Derivation")
    for name in answer.reads:
        if connector.feed_of(name) is None:
            there = ", ".join(s.name for feed in connector.feeds for s in feed.streams)
            raise HookError(where, f"reads {name!r}, which is no stream", f"choose from {there}")
    if ACCOUNT in answer.parameters:
        said = f"the parameter {ACCOUNT!r} is given by the core: the account whose rows are made"
        raise HookError(where, said, "name it otherwise")
    try:
        named = {name for _, name in pieces(answer.select) if name is not None}
    except ValueError as error:
        raise HookError(where, f"its select: {error}", "mend it") from error
    if strange := sorted(named - set(answer.reads)):
        said = f"its select names {', '.join(f'{{{name}}}' for name in strange)}"
        raise HookError(where, f"{said}, and does not say that it reads that", "add it to reads")


def refuse_circle(where: str, stream: str, reads: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse streams that are made of each other: every end of a pass would begin the next.

    `reads` is what derived streams read, by name.

    Raises: `HookError`.
    """
    seen: set[str] = set()
    coming = list(reads[stream])
    while coming:
        name = coming.pop()
        if name == stream:
            raise HookError(where, f"{stream!r} is made of itself", "let it read other streams")
        if name not in seen:
            seen.add(name)
            coming += reads.get(name, ())


def joining(
    derived: Mapping[str, Derivation], *, walked: Iterable[str], wanted: Iterable[str]
) -> list[str]:
    """Return the derived streams that a job walks beside its own, in the order of their turns.

    They are due when a pass of what they read has ended, whoever walked it: so each has a turn in
    every round that walks some of that. What no job names (`wanted`) is not made, like any other
    stream.
    """
    there, joined = set(walked), list[str]()
    left = [name for name in derived if name in set(wanted) - there]
    while found := [name for name in left if there.intersection(derived[name].reads)]:
        joined += found
        there |= set(found)
        left = [name for name in left if name not in there]
    return joined
