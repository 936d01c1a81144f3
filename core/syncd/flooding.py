"""The high-water mark: while too many effects of a kind are open, nothing produces more of it.

Instead of dropping any: their partitions are not claimed, and go on by themselves below the mark.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import trio

from syncd.building import Outfit
from syncd.daemon import Process
from syncd.events import EffectsAbated, EffectsFlooded
from syncd.store import effects

LOOK_SECONDS = 5.0  # between two looks at how many are open: each counts up to the mark


class Flood:
    """Which kinds of effects are above the mark, of those that some jobs may produce."""

    def __init__(self, process: Process, outfits: Collection[Outfit]) -> None:
        self._process = process
        self._outfits = outfits
        self._look_at = trio.current_time()
        self.kinds: list[str] = []

    async def look(self) -> None:
        """See now and then how many effects are open.

        Raises: `StoreError`.
        """
        produced = {kind for outfit in self._outfits for kind in produced_by(outfit)}
        if not produced or trio.current_time() < self._look_at:
            return
        self._look_at = trio.current_time() + LOOK_SECONDS
        most = self._process.config.daemon.effects_max
        before = self.kinds
        self.kinds = await self._process.hops.run(effects.flooded, sorted(produced), most)
        for kind in self.kinds:
            if kind not in before:
                self._process.emit(EffectsFlooded(kind, most))
        for kind in before:
            if kind not in self.kinds:
                self._process.emit(EffectsAbated(kind, most))

    async def declare(self, outfit: Outfit) -> None:
        """Note which kinds each partition of a job may produce, where it may any.

        Raises: `StoreError`.
        """
        feeds = {place.whole.feed: place.target.outbox.kinds for place in outfit.places.values()}
        await self._process.hops.run(effects.produce, outfit.instance.name, feeds)


def flooded_message(kinds: Iterable[str], most: int) -> str:
    """Say why nothing is fetched that may produce more of these kinds."""
    named = ", ".join(sorted(kinds))
    return (
        f"over {most} effects of {named} are open (daemon.effects_max); "
        "`syncd serve` or `syncd run --effects` delivers them"
    )


def produced_by(outfit: Outfit) -> set[str]:
    return {kind for place in outfit.places.values() for kind in place.target.outbox.kinds}
