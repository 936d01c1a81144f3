"""Waiting for the first of several events."""

from __future__ import annotations

import trio


async def first_of(*events: trio.Event) -> None:
    """Wait for any of these."""
    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(cancel_at, event, nursery.cancel_scope)


async def cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    """Cancel a scope once an event is set."""
    await event.wait()
    scope.cancel()
