"""Extract shipments from threads: by patterns, or by asking a language model once for each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, TypeAlias

import attrs
import trio

from syncd import (
    Context,
    Done,
    Later,
    Quarantined,
    Response,
    Throttled,
    Unavailable,
    Unintelligible,
)
from syncd_front import llm
from syncd_front.found import (
    Extraction,
    Found,
    by_patterns,
    found_in,
    is_silent,
    problem_of,
    scanned_of,
)
from syncd_front.records import Thread
from syncd_front.settings import LLM_QUOTA, Settings

Result: TypeAlias = Extraction | Quarantined | Later

_KEPT = 4096  # results: each of a thread that another stream is about to ask for, too

# A cut answer is asked for once more, with room for so many times as much.
_ROOM = 4


@attrs.define
class _Flight:
    done: trio.Event = attrs.field(factory=trio.Event)
    result: Result | None = None


class Extractions:
    """What was extracted lately, by content: two streams are made of one answer.

    Whoever asks while another is asking waits for that one's answer. What failed is not kept; a
    result that is committed is known by the core, which does not ask again.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Extraction] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}

    async def once(self, key: bytes, extract: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of a key: one that is here, or on its way, or a new one."""
        while True:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
            flight = self._flights.get(key)
            if flight is None:
                return await self._begin(key, extract)
            await flight.done.wait()
            if flight.result is not None:  # else whoever asked was cancelled, or raised
                return flight.result

    async def _begin(self, key: bytes, extract: Callable[[], Awaitable[Result]]) -> Result:
        flight = self._flights[key] = _Flight()
        try:
            result = flight.result = await extract()
        finally:
            del self._flights[key]
            flight.done.set()
        if isinstance(result, Extraction):
            self._kept[key] = result
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return result


async def scanned(
    ctx: Context[Settings, Extractions], threads: Sequence[Any]
) -> Sequence[Done | Quarantined | Later]:
    """Make the rows of threads that were read."""

    def row(thread: Thread, extraction: Extraction) -> Any:
        found = _found(ctx, thread, extraction)
        shipments = sum(problem_of(each.told.tracking_number) is None for each in found)
        return scanned_of(thread, extraction, shipments=shipments, now=ctx.http.now())

    return await _each(ctx, threads, row)


async def shipments(
    ctx: Context[Settings, Extractions], threads: Sequence[Any]
) -> Sequence[Done | Quarantined | Later]:
    """Say which shipments threads speak of; each goes on by itself."""
    return await _each(ctx, threads, partial(_found, ctx))


def _found(
    ctx: Context[Settings, Extractions], thread: Thread, extraction: Extraction
) -> list[Found]:
    return found_in(thread, extraction, confidence_least=ctx.settings.confidence_least)


async def _each(
    ctx: Context[Settings, Extractions],
    threads: Sequence[Thread],
    make: Callable[[Thread, Extraction], Any],
) -> Sequence[Done | Quarantined | Later]:
    results: list[Done | Quarantined | Later] = [Later("it was not reached")] * len(threads)

    async def one(place: int, thread: Thread) -> None:
        result = await extracted(ctx, thread)
        made = Done(make(thread, result)) if isinstance(result, Extraction) else result
        results[place] = made

    if len(threads) == 1:  # a conversation's page; errors come as they are, and in no group
        await one(0, threads[0])
        return results
    for place, thread in enumerate(threads):  # a replay: few, and in no hurry
        await one(place, thread)
    return results


# --- One thread -----------------------------------------------------------------------------------


async def extracted(ctx: Context[Settings, Extractions], thread: Thread) -> Result:
    """Return what a thread holds: a model's answer is shared by all who ask for the same text.

    Raises: `Unauthorized` where the endpoint lets nobody in, or has been paid no more.
    """
    if thread.merged_into is not None or is_silent(thread):
        return Extraction()
    if not ctx.settings.asks_model:
        return by_patterns(thread)
    key = _key(ctx.settings.llm_model, thread.text)
    return await ctx.session.once(key, partial(_asked, ctx, thread.text))


def _key(model: str, text: str) -> bytes:
    said = f"{model}\0{llm.PROMPT_VERSION}\0{llm.SCHEMA_VERSION}\0{text}"
    return sha256(said.encode(errors="surrogatepass")).digest()


async def _asked(ctx: Context[Settings, Extractions], text: str) -> Result:
    total = Extraction(extracted_by=ctx.settings.llm_model)
    for part in llm.parts_of(text, ctx.settings.llm_part_characters):
        result = await _asked_part(ctx, part, total)
        if not isinstance(result, Extraction):
            return result
        total = result
    return total


async def _asked_part(ctx: Context[Settings, Extractions], part: str, total: Extraction) -> Result:
    """Ask for one part of a text; one whose answer was cut is asked for again, with more room."""
    for room in (1, _ROOM):
        tokens_max = ctx.settings.llm_completion_tokens * room
        response = await _posted(ctx, part, tokens_max)
        if isinstance(response, Later):
            return response
        match llm.answer_of(response):
            case llm.Answered(told=told) as said:
                return _added(total, told, said)
            case llm.Cut() as said:
                total = _added(total, (), said)
            case llm.Refused(reason=reason):
                return Quarantined(reason)
            case llm.Garbled(reason=reason):
                return Later(reason)
    return Quarantined(f"the model's answer was cut, with room for {tokens_max} tokens, too")


def _added(total: Extraction, told: Sequence[Any], said: llm.Answered | llm.Cut) -> Extraction:
    return attrs.evolve(
        total,
        told=(*total.told, *told),
        calls=total.calls + 1,
        prompt_tokens=total.prompt_tokens + said.prompt_tokens,
        completion_tokens=total.completion_tokens + said.completion_tokens,
    )


async def _posted(
    ctx: Context[Settings, Extractions], part: str, tokens_max: int
) -> Response | Later:
    settings = ctx.settings
    most = settings.llm_tokens_per_minute
    try:
        return await ctx.http.post(
            f"{settings.llm_base_url.rstrip('/')}{llm.COMPLETIONS}",
            json=llm.body_of(part, model=settings.llm_model, tokens_max=tokens_max),
            quota=LLM_QUOTA,
            cost={"tokens": llm.tokens_of(part, tokens_max=tokens_max, most=most)},
            also=frozenset({400}),
        )
    except Throttled as error:
        return Later(str(error), error.retry_after_seconds)
    except (Unavailable, Unintelligible) as error:
        return Later(str(error))
