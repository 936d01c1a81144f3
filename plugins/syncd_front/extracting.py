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
    Scanned,
    Told,
    by_patterns,
    found_in,
    is_silent,
)
from syncd_front.settings import LLM_QUOTA, Settings
from syncd_front.threads import Thread

Result: TypeAlias = Extraction | Quarantined | Later

_KEPT = 4096  # parts of texts: each of a thread that another stream is about to ask for, too

# A cut answer is asked for once more, with room for so many times as much.
_ROOMS = (1, 4)


@attrs.define
class Part:
    """What became of a part of a text so far, and what was paid for that.

    It is settled once it is `told` or `refused`.
    """

    told: tuple[Told, ...] | None = None
    refused: str | None = None
    cuts: int = 0
    bill: llm.Bill = attrs.field(factory=llm.Bill)

    @property
    def settled(self) -> bool:
        return self.told is not None or self.refused is not None


@attrs.define
class _Flight:
    done: trio.Event = attrs.field(factory=trio.Event)
    result: Part | Later | None = None


class Extractions:
    """What was answered lately, part by part of a text: two streams are made of one answer.

    Whoever asks while another is asking waits for that one's answer. A refusal is an answer, too,
    and of one that cannot be used its bill is kept. So of a text whose last part fails no other is
    paid for again, nor what was said before when a thread goes on. A result that is committed is
    known by the core, which does not ask again.
    """

    def __init__(self, most: int = _KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, Part] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}

    async def once(
        self, key: bytes, ask: Callable[[Part], Awaitable[Later | None]]
    ) -> Part | Later:
        """Return the part of a key, settled; `ask` settles it, or says that it must wait."""
        while True:
            part = self._kept.get(key)
            if part is not None and part.settled:
                self._kept.move_to_end(key)
                return part
            flight = self._flights.get(key)
            if flight is None:
                return await self._begin(key, ask)
            await flight.done.wait()
            if flight.result is not None:  # else whoever asked was cancelled, or raised
                return flight.result

    async def _begin(
        self, key: bytes, ask: Callable[[Part], Awaitable[Later | None]]
    ) -> Part | Later:
        flight = self._flights[key] = _Flight()
        part = self._kept.setdefault(key, Part())
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        try:
            flight.result = await ask(part) or part
        finally:
            del self._flights[key]
            flight.done.set()
        return flight.result


async def scanned(
    ctx: Context[Settings, Extractions], threads: Sequence[Any]
) -> Sequence[Done | Quarantined | Later]:
    """Say what threads hold that were read."""
    return await _each(ctx, threads, partial(Scanned, at=ctx.http.now()))


async def shipments(
    ctx: Context[Settings, Extractions], threads: Sequence[Any]
) -> Sequence[Done | Quarantined | Later]:
    """Say which shipments threads speak of; each goes on by itself."""
    return await _each(ctx, threads, found_in)


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
    if thread.merged_into is not None or is_silent(thread, prefilter=ctx.settings.prefilter):
        return Extraction()
    if not ctx.settings.asks_model:
        return by_patterns(thread)
    return await _asked(ctx, thread.text)


def _key(model: str, text: str) -> bytes:
    said = f"{model}\0{llm.PROMPT_VERSION}\0{llm.SCHEMA_VERSION}\0{text}"
    return sha256(said.encode(errors="surrogatepass")).digest()


async def _asked(ctx: Context[Settings, Extractions], text: str) -> Result:
    model, told, bill, full = ctx.settings.llm_model, list[Told](), llm.Bill(), False
    parts = llm.parts_of(text, ctx.settings.llm_part_characters)
    for each in dict.fromkeys(parts):  # two that are alike are asked about once
        part = await ctx.session.once(_key(model, each), partial(_asked_part, ctx, each))
        if isinstance(part, Later):
            return part
        bill += part.bill
        if part.told is None:
            return Quarantined(f"{part.refused}; {bill}")
        told += part.told
        full = full or len(part.told) >= llm.NAMED_MAX
    return Extraction(
        tuple(told),
        extracted_by=model,
        calls=bill.calls,
        prompt_tokens=bill.prompt_tokens,
        completion_tokens=bill.completion_tokens,
        full=full,
    )


async def _asked_part(ctx: Context[Settings, Extractions], text: str, part: Part) -> Later | None:
    """Settle a part of a text; one whose answer was cut is asked for again, with more room."""
    tokens_max = ctx.settings.llm_completion_tokens * _ROOMS[-1]
    for room in _ROOMS[part.cuts :]:
        response = await _posted(ctx, text, ctx.settings.llm_completion_tokens * room)
        if isinstance(response, Later):
            return response
        part.bill += llm.bill_of(response)
        match llm.answer_of(response):
            case llm.Answered(told=told):
                part.told = told
                return None
            case llm.Cut():
                part.cuts += 1
            case llm.Refused(reason=reason):
                part.refused = reason
                return None
            case llm.Garbled(reason=reason):
                return Later(f"{reason}; {part.bill}")
    part.refused = f"the model's answer was cut, with room for {tokens_max} tokens, too"
    return None


async def _posted(
    ctx: Context[Settings, Extractions], text: str, tokens_max: int
) -> Response | Later:
    settings = ctx.settings
    most = settings.llm_tokens_per_minute
    try:
        return await ctx.http.post(
            f"{settings.llm_base_url.rstrip('/')}{llm.COMPLETIONS}",
            json=llm.body_of(text, model=settings.llm_model, tokens_max=tokens_max),
            quota=LLM_QUOTA,
            cost={"tokens": llm.tokens_of(text, tokens_max=tokens_max, most=most)},
            also=frozenset({400}),
            idempotent=False,
            timeout_seconds=settings.llm_timeout_seconds,
        )
    except Throttled as error:
        return Later(str(error), error.retry_after_seconds)
    except (Unavailable, Unintelligible) as error:
        return Later(str(error))
