"""A stand-in for the NPI registry's API, served over real HTTP.

It keeps to what public sources tell of that API (see `api`): 200 rows a page and 1,200 a search
whatever is asked for, errors with status 200, wildcards, no totals. It needs nothing of syncd and
can be a process of its own:

    python -m syncd_nppes.simulator --port 0 --providers 5000
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qsl

import hypercorn.trio
import msgspec
import trio
from hypercorn.config import Config
from starlette.types import Receive, Scope, Send

from syncd_nppes.simulator_answers import Registry, Reply
from syncd_nppes.simulator_providers import invented

_HOST = "127.0.0.1"
_GRACE_SECONDS = 0.25

__all__ = ["Registry", "Simulator", "serve"]


async def _at_once(_: Reply) -> None:
    """Answer without delay."""


class Simulator:
    """An ASGI application that answers for the registry.

    `linger` is waited for before each answer; `in_flight_max` is the most that were being answered
    at once.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        linger: Callable[[Reply], Awaitable[None]] = _at_once,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.registry = registry
        self.in_flight = self.in_flight_max = 0
        self._linger = linger
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
            try:
                await self._answer(scope, send)
            finally:
                self.in_flight -= 1

    async def _answer(self, scope: Scope, send: Send) -> None:
        if scope["path"] != "/api/" or scope["method"] != "GET":
            reply = Reply(b"<html>Not Found</html>", 404, "text/html")
        else:
            query = parse_qsl(scope["query_string"].decode("ascii", "replace"))
            reply = self.registry.answer(dict(query))
        await self._linger(reply)
        fields = {
            "content-type": reply.media_type,
            "date": formatdate(self._clock(), usegmt=True),
            **reply.headers,
        }
        headers = [(name.encode(), value.encode()) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


async def _live(receive: Receive, send: Send) -> None:
    """Start and stop with the server: there is nothing to prepare or to give back."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


# --- Serving --------------------------------------------------------------------------------------


@asynccontextmanager
async def serve(simulator: Simulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, on `port` (0: any that is free); yield the base URL.

    An error of the block leaves it as it is, not wrapped in a group.
    """
    alone: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            stop = trio.Event()
            start = partial(_listen, simulator, port=port, stop=stop)
            address: str = (await nursery.start(start))[0]
            try:
                yield f"{address}/api"
            finally:
                stop.set()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        alone = group.exceptions[0]
    if alone is not None:
        raise alone


async def _listen(
    simulator: Simulator, *, port: int, stop: trio.Event, task_status: trio.TaskStatus[list[str]]
) -> None:
    config = Config()
    config.bind = [f"{_HOST}:{port}"]
    config.include_date_header = False  # the simulator's clock makes the date
    config.graceful_timeout = _GRACE_SECONDS
    config.loglevel = "WARNING"
    await hypercorn.trio.serve(
        cast("Any", simulator),
        config,
        shutdown_trigger=stop.wait,
        task_status=task_status,
        mode="asgi",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the first line of output is `{"base_url": ...}`."""
    parser = argparse.ArgumentParser(
        prog="python -m syncd_nppes.simulator",
        description="Serve a stand-in for the NPI registry on the loopback interface.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument("--providers", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--empty-every", type=int, help="of so many requests one finds nothing")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input ends"
    )
    trio.run(_run, parser.parse_args(arguments))


async def _run(options: argparse.Namespace) -> None:
    registry = Registry(
        invented(options.providers, seed=options.seed),
        seed=options.seed,
        empty_every=options.empty_every,
    )
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with serve(Simulator(registry), port=options.port) as base_url:
            line = msgspec.json.encode({"base_url": base_url}).decode()
            print(line, flush=True)  # noqa: T201 - the command's output
            async with trio.open_nursery() as nursery:
                if options.exit_with_parent:
                    nursery.start_soon(_cancel_at_end_of_input, nursery.cancel_scope)
                await anext(signals)
                nursery.cancel_scope.cancel()


async def _cancel_at_end_of_input(scope: trio.CancelScope) -> None:
    """Wait for standard input to end: a pipe does, when the process that held it is gone."""
    read = partial(os.read, 0, 4096)
    while await trio.to_thread.run_sync(read, abandon_on_cancel=True):
        pass
    scope.cancel()


if __name__ == "__main__":
    main()
