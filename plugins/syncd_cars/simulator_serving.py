"""Serve the car simulator over HTTP/1.1 on the loopback interface: in a test, or as a process."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import hypercorn.trio
import msgspec
import trio
from hypercorn.config import Config

from syncd_cars.inventory import CARS, Inventory
from syncd_cars.simulator import Simulator

_HOST = "127.0.0.1"
_KEEP_ALIVE_SECONDS = 75.0  # nginx's default: longer than clients keep a connection
_GRACE_SECONDS = 0.25  # what is being answered when the server stops
_CUT_AFTER_SECONDS = 1.0


@asynccontextmanager
async def serve(simulator: Simulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, on `port` (0: any that is free); yield the base URL.

    The server stops within about a second, whatever its clients do. An error of the block leaves it
    as it is, not wrapped in a group.
    """
    alone: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            stop, stopped = trio.Event(), trio.Event()
            start = partial(_listen, simulator, port=port, stop=stop, stopped=stopped)
            base_url: str = (await nursery.start(start))[0]
            simulator.public_url = simulator.public_url or base_url
            try:
                yield base_url
            finally:
                stop.set()
                with trio.move_on_after(2 * _CUT_AFTER_SECONDS, shield=True):
                    await _see_it_stop(stopped, int(base_url.rpartition(":")[2]))
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        alone = group.exceptions[0]
    if alone is not None:
        raise alone


async def _listen(
    simulator: Simulator,
    *,
    port: int,
    stop: trio.Event,
    stopped: trio.Event,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    config = Config()
    config.bind = [f"{_HOST}:{port}"]
    config.include_date_header = False  # the simulator's clock makes the date
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    config.graceful_timeout = _GRACE_SECONDS
    config.loglevel = "WARNING"
    try:
        await hypercorn.trio.serve(
            cast("Any", simulator),
            config,
            shutdown_trigger=stop.wait,
            task_status=task_status,
            mode="asgi",
        )
    finally:
        stopped.set()


async def _see_it_stop(stopped: trio.Event, port: int) -> None:
    """Wait for the server to stop; end the connections of those who keep it.

    Hypercorn shields its sends from cancellation, so a client that stopped reading would hold the
    server for as long as it likes.
    """
    with trio.move_on_after(_CUT_AFTER_SECONDS):
        await stopped.wait()
    if not stopped.is_set():
        _cut_connections(port)


def _cut_connections(port: int) -> None:
    """Shut down every connection that this process accepted on `port`."""
    for entry in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):
            descriptor = os.dup(int(entry.name))
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                continue
            with socket.socket(fileno=descriptor) as connection:
                if connection.getsockname()[1:2] == (port,) and connection.getpeername():
                    connection.shutdown(socket.SHUT_RDWR)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the first line of output is `{"base_url": ...}`."""
    options = _parser().parse_args(arguments)
    trio.run(_run, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_cars.simulator",
        description="Serve a stand-in for AuctionsAPI on the loopback interface.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument("--api-key", required=True, help="what x-api-key must carry")
    parser.add_argument("--cars", type=int, default=CARS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weight", choices=("demo", "real"), default="demo")
    parser.add_argument("--rate", type=float, help="requests a second; unlimited if left out")
    parser.add_argument("--burst", type=int, default=1, help="requests at once")
    parser.add_argument("--public-url", default="", help="what links begin with")
    parser.add_argument("--next-keeps-query", action="store_true")
    parser.add_argument("--control", action="store_true", help="open /_simulator/...")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input ends"
    )
    return parser


def _simulator(options: argparse.Namespace) -> Simulator:
    return Simulator(
        Inventory(options.cars, seed=options.seed, weight=options.weight),
        api_key=options.api_key,
        rate=options.rate,
        burst=options.burst,
        seed=options.seed,
        public_url=options.public_url,
        next_keeps_query=options.next_keeps_query,
        control=options.control,
    )


async def _run(options: argparse.Namespace) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with serve(_simulator(options), port=options.port) as base_url:
            line = msgspec.json.encode({"base_url": base_url}).decode()
            print(line, flush=True)  # noqa: T201 - the command's output
            async with trio.open_nursery() as nursery:
                if options.exit_with_parent:
                    nursery.start_soon(_cancel_at_end_of_input, nursery.cancel_scope)
                await anext(signals)
                nursery.cancel_scope.cancel()


async def _cancel_at_end_of_input(scope: trio.CancelScope) -> None:
    """Wait for standard input to end: a pipe does, when the process that held it is gone."""
    read = partial(os.read, sys.stdin.fileno(), 4096)
    while await trio.to_thread.run_sync(read, abandon_on_cancel=True):
        pass
    scope.cancel()
