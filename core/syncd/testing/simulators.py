"""A simulator as a program: what it says first, what it can be told, when it ends.

Its first line of output is ``{"base_url": ..., "configuration": ..., "credentials": [...]}``. A
line of input ``change 0.01`` is answered with ``{"changed": 30}``, a line ``post BASE_URL`` with
``{"posted": 12, "heard": 12}``. With `--exit-with-parent` it stops at the end of its input.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import msgspec
import trio
from starlette.types import ASGIApp

from syncd.testing.posting import Posted
from syncd.testing.serving import serve

CHANGE = "change"
POST = "post"


def _nothing(_: float) -> int:
    return 0


async def _no_webhooks(_: str) -> Posted:
    return Posted()


@attrs.frozen
class Simulated:
    """A stand-in for an upstream, and how syncd is set up to ask it.

    `configuration` writes, for the base URL, the tables of a connector and of its jobs: TOML as an
    operator's. `credentials` are rows for `syncd credentials import`, each with its `account`.
    `change` lets about this share of the records change, and answers with how many did. `post`
    sends what webhooks are due to a daemon at a base URL.
    """

    application: ASGIApp
    configuration: Callable[[str], str]
    credentials: Sequence[Mapping[str, str]] = ()
    change: Callable[[float], int] = _nothing
    post: Callable[[str], Awaitable[Posted]] = _no_webhooks


def simulator_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every simulator has as a program."""
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input ends"
    )


def run_simulator(simulated: Simulated, options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT, or the end of the input where that is wanted."""
    trio.run(_run, simulated, options)


async def _run(simulated: Simulated, options: argparse.Namespace) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with serve(simulated.application, port=options.port) as base_url:
            _say(
                {
                    "base_url": base_url,
                    "configuration": simulated.configuration(base_url),
                    "credentials": simulated.credentials,
                }
            )
            async with trio.open_nursery() as nursery:
                if options.exit_with_parent:
                    nursery.start_soon(_heed, simulated, nursery.cancel_scope)
                await anext(signals)
                nursery.cancel_scope.cancel()


async def _heed(simulated: Simulated, scope: trio.CancelScope) -> None:
    """Do what lines of the input say, until it ends: a pipe does when who held it is gone."""
    read = partial(os.read, sys.stdin.fileno(), 4096)
    line = b""
    while part := await trio.to_thread.run_sync(read, abandon_on_cancel=True):
        *whole, line = (line + part).split(b"\n")
        for each in whole:
            word, _, value = each.decode().partition(" ")
            if word == CHANGE:
                _say({"changed": simulated.change(float(value))})
            elif word == POST:
                _say(attrs.asdict(await simulated.post(value)))
    scope.cancel()


def _say(value: Mapping[str, Any]) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)  # noqa: T201 - the program's output
