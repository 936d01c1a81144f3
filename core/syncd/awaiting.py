"""Transforms that await: between a page's fetch and its batch, another API is asked about it.

    fetch --page--> in a thread: decode, transforms before --> known by content? --no--> function
                                                                    | yes                   |
                                                                    v                       v
                          batch <-- the page, its records with their answers <--------------+

It runs in the task that fetched the page, so that back pressure, the drain and the lease's loss are
the fetch's own. What that page opens is being fetched meanwhile, and a page that waits here takes
no place from those that are asked of the upstream: as many may wait as the feed's quota allows in
flight, and `BYTES_MAX` of them. The keys of a page are looked up in one query. What the function
answered is remembered in the commit of its rows (`commit`), so that a crash repeats what was in
flight or in an open batch, and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import attrs
import trio

from syncd.awaited import Awaited, Piece
from syncd.border import Border
from syncd.commit import Target
from syncd.contract import refuse_unfit_later
from syncd.errors import Deferred, PluginError
from syncd.model import AsyncTransform, Context, Done, Later, Page, Quarantined
from syncd.nodes import Walked
from syncd.records import RecordMaker
from syncd.store import content
from syncd.store.hops import Hops
from syncd.threads import Threads
from syncd.validators import Unchanged

Answer = Done | Quarantined | Later

BYTES_MAX = 64 * 2**20  # of pages that wait: two of the largest, or any number of usual ones
KEPT_MAX = 1_000  # answers of pages that failed: they are not asked for a second time in a run


@attrs.define
class Room:
    """The pages that wait for another API."""

    pages_max: int
    changed: Callable[[], None] = lambda: None
    pages: int = 0
    size_bytes: int = 0

    @property
    def spare(self) -> int:
        """Return how many more pages may be in flight, since so many wait here."""
        return 0 if self.size_bytes >= BYTES_MAX else min(self.pages, self.pages_max)

    @contextmanager
    def waiting(self, size_bytes: int) -> Iterator[None]:
        """Have a page wait here."""
        self.pages, self.size_bytes = self.pages + 1, self.size_bytes + size_bytes
        self.changed()
        try:
            yield
        finally:
            self.pages, self.size_bytes = self.pages - 1, self.size_bytes - size_bytes


@attrs.define
class Awaiting:
    """Asks about the records of one run's pages.

    Without `hops` nothing is known and nothing looked up (a preview). `verify`: all is asked about,
    whatever is known; that is how an operator has rows made anew.
    """

    target: Target
    threads: Threads
    hops: Hops | None = None
    verify: bool = False
    room: Room = attrs.field(factory=lambda: Room(0))
    _looked: set[str] = attrs.field(factory=set, init=False)  # streams whose table has its rows
    _kept: OrderedDict[tuple[str, bytes, bytes], Done | Quarantined] = attrs.field(
        factory=OrderedDict, init=False
    )

    @property
    def streams(self) -> list[str]:
        """Return the streams whose records another API is asked about."""
        return [name for name, each in self.target.makers.items() if each.steps.awaiting]

    async def answered(self, walked: Walked, context: Context[Any, Any]) -> Walked:
        """Return a page that was fetched with answers for its records: see `page`."""
        if not self.concerns(walked.page):
            return walked
        with self.room.waiting(walked.size_bytes):
            return attrs.evolve(walked, page=await self.page(walked.page, context))

    def concerns(self, page: Page) -> bool:
        """Return whether something of a page is to be asked about."""
        if isinstance(page, Unchanged):  # what it stands for is committed
            return False
        return any(page.records.get(name) for name in self.streams)

    async def page(self, page: Page, context: Context[Any, Any]) -> Page:
        """Return the page with answers for its records, stream by stream.

        Raises: `SourceError` as the function says; `Deferred` where it answered `Later`, or not in
        time; `PluginError` for anything else that it raises, and for answers that are none;
        `StoreError`.
        """
        records = dict(page.records)
        for name in self.streams:
            if records.get(name):
                records[name] = await self._stream(name, records[name], context)
        return attrs.evolve(page, records=records)

    async def _stream(
        self, name: str, items: Sequence[Any], context: Context[Any, Any]
    ) -> list[Awaited]:
        maker, where = self.target.makers[name], str(context.partition)
        transform = maker.steps.awaiting
        assert transform is not None, "only such streams come here"
        handed = await self.threads.run(
            context.partition.instance, where, _handed_over, maker, items, where
        )
        pieces = [piece for each in handed for piece in each.pieces]
        known = await self._known(name, pieces, context)
        asked = [piece for piece in pieces if id(piece) not in known]
        answers = await self._answers(name, transform, asked, context)
        settled = known | {
            id(piece): attrs.evolve(piece, answer=answer)
            for piece, answer in zip(asked, answers, strict=True)
        }
        return [
            attrs.evolve(each, pieces=tuple(settled[id(piece)] for piece in each.pieces))
            for each in handed
        ]

    async def _known(
        self, name: str, pieces: Sequence[Piece], context: Context[Any, Any]
    ) -> dict[int, Piece]:
        """Return the pieces that were answered for and committed, by identity."""
        keys = sorted({piece.key for piece in pieces if piece.key is not None})
        if self.hops is None or self.verify or not keys:
            return {}
        table = self.target.tables[name]
        owner = content.Owner.of(context.partition, name, per_account=table.per_account)
        if name not in self._looked:
            await self.hops.run(content.forget_if_emptied, owner, (table.schema, table.name))
            self._looked.add(name)
        found = await self.hops.run(content.known, owner, keys)
        known = {id(each): each.known_by(found.get(each.key or b"")) for each in pieces}
        return {place: each for place, each in known.items() if each is not None}

    async def _answers(
        self,
        name: str,
        transform: AsyncTransform,
        pieces: Sequence[Piece],
        context: Context[Any, Any],
    ) -> list[Done | Quarantined]:
        """Ask about what nobody has answered for in this run.

        Raises: as `page`.
        """
        kept = [self._kept.get(_name(name, piece)) for piece in pieces]
        open_ = [place for place, answer in enumerate(kept) if answer is None]
        answers: list[Answer | None] = [*kept]
        if open_:
            values = [pieces[place].value for place in open_]
            said = await asked(transform, context, values)
            for place, each in zip(open_, said, strict=True):
                answers[place] = each
        final = [each for each in answers if isinstance(each, Done | Quarantined)]
        if len(final) == len(answers):
            for piece in pieces:
                self._kept.pop(_name(name, piece), None)
            return final
        for piece, answer in zip(pieces, answers, strict=True):
            if piece.content is not None and isinstance(answer, Done | Quarantined):
                self._kept[_name(name, piece)] = answer
        for oldest in list(islice(self._kept, max(0, len(self._kept) - KEPT_MAX))):
            del self._kept[oldest]
        raise _deferred(transform, context, [each for each in answers if isinstance(each, Later)])


def _name(stream: str, piece: Piece) -> tuple[str, bytes, bytes]:
    return stream, piece.key or b"", piece.content or b""


def _handed_over(maker: RecordMaker, items: Sequence[Any], where: str) -> list[Awaited]:
    """Return what is handed over of records. Runs in a thread."""
    try:
        return [maker.handed_over(item) for item in items]
    except AttributeError as error:
        assert maker.steps.awaiting is not None, "only such streams come here"
        said = f"transform {maker.steps.awaiting.name} cannot tell records apart: {error}"
        raise PluginError(where, said, "name the fields of what it is handed in its key") from error


async def asked(
    transform: AsyncTransform, context: Context[Any, Any], values: Sequence[Any]
) -> Sequence[Answer]:
    """Call the function that awaits.

    Raises: `SourceError` as it says; `Deferred` where it takes too long: most likely it waits for a
    limit of the other API, and a plugin that hangs is told apart by nothing; `PluginError`.
    """
    where, what = str(context.partition), f"transform {transform.name}"
    with Border(where, what), trio.move_on_after(transform.deadline_seconds):
        answers = await transform.function(context, values)
        return _checked(answers, len(values), where, what)
    said = f"{what} took over {transform.deadline_seconds:g} s"
    raise Deferred(where, said, "its page is tried again")


async def ask_each(
    maker: RecordMaker, items: Sequence[Any], context: Context[Any, Any], threads: Threads
) -> list[Awaited | Later]:
    """Return records with answers for all of their pieces; `Later` in place of one that lacks some.

    Nothing is looked up and nothing kept: what was set aside is asked about anew.

    Raises: as `Awaiting.page`.
    """
    transform, where = maker.steps.awaiting, str(context.partition)
    assert transform is not None, "only such streams come here"
    instance = context.partition.instance
    handed = await threads.run(instance, where, _handed_over, maker, items, where)
    pieces = [piece for each in handed for piece in each.pieces]
    said = await asked(transform, context, [piece.value for piece in pieces]) if pieces else []
    answers = {id(piece): answer for piece, answer in zip(pieces, said, strict=True)}
    return [_settled(each, answers) for each in handed]


def _settled(awaited: Awaited, answers: Mapping[int, Answer]) -> Awaited | Later:
    pieces = []
    for piece in awaited.pieces:
        answer = answers[id(piece)]
        if isinstance(answer, Later):
            return answer
        pieces.append(attrs.evolve(piece, answer=answer))
    return attrs.evolve(awaited, pieces=tuple(pieces))


def _checked(answers: Any, count: int, where: str, what: str) -> Sequence[Answer]:
    found = list(answers)
    for each in found:
        if not isinstance(each, Answer):
            said = f"{what} answered with {type(each).__name__}, not Done, Quarantined or Later"
            raise PluginError(where, said, "mend the plugin")
        if isinstance(each, Later):
            refuse_unfit_later(each, where, what)
    if len(found) != count:
        said = f"{what} answered for {len(found)} of {count} records"
        raise PluginError(where, said, "mend the plugin")
    return found


def _deferred(
    transform: AsyncTransform, context: Context[Any, Any], laters: Sequence[Later]
) -> Deferred:
    waits = [each.seconds for each in laters if each.seconds is not None]
    said = f"transform {transform.name} answers later for {len(laters)} records: "
    return Deferred(
        str(context.partition),
        f"{said}{laters[0].reason}",
        "the page is tried again",
        wait_seconds=max(waits, default=None),
    )
