"""Serve the simulator over HTTP/1.1 on the loopback interface: in a test, or as a process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import hypercorn.trio
import msgspec
import trio
from hypercorn.config import Config

from syncd_nhanh.simulator import Limit, Nhanh, Simulator
from syncd_nhanh.simulator_customers import Customers, with_holes

FIRST_BUSINESS = 110_001

_HOST = "127.0.0.1"
_GRACE_SECONDS = 0.25  # for what is being answered when the server stops
_STOP_SECONDS = 5.0


@asynccontextmanager
async def serve(simulator: Simulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, on `port` (0: any that is free); yield the base URL.

    An error of the block leaves it as it is, not wrapped in a group.
    """
    alone: Exception | None = None
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        bound: list[str] = await nursery.start(partial(_listen, simulator, port=port, stop=stop))
        try:
            yield bound[0]
        except Exception as error:  # noqa: BLE001  # it is raised again below, out of the nursery
            alone = error
        finally:
            stop.set()
            nursery.cancel_scope.deadline = trio.current_time() + _STOP_SECONDS
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
    trio.run(_run, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_nhanh.simulator",
        description="Serve a stand-in for Nhanh.vn's open API on the loopback interface.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument("--businesses", type=int, default=1)
    parser.add_argument("--customers", type=int, default=7500, help="of each business")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="that each call takes")
    parser.add_argument("--calls", type=int, default=150, help="in any 30 seconds, of a business")
    parser.add_argument(
        "--real-statuses", action="store_true", help="429, 401 and the like in place of 200"
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input ends"
    )
    return parser


def _simulator(options: argparse.Namespace) -> Simulator:
    number: int = options.customers
    businesses = {
        FIRST_BUSINESS + each: Customers(number, seed=options.seed + each, gone=with_holes(number))
        for each in range(options.businesses)
    }
    nhanh = Nhanh(
        businesses,
        at=time.time(),
        gate=Limit(options.calls),
        real_statuses=options.real_statuses,
    )
    return Simulator(nhanh, seconds=options.seconds)


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
