"""A stand-in for the NPI registry's API, served over real HTTP.

It keeps to what public sources tell of that API (see `api`): 200 rows a page and 1,200 a search
whatever is asked for, errors with status 200, wildcards, no totals. It can be a process
of its own:

    python -m syncd_nppes.simulator --port 0 --providers 5000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from random import Random
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

import syncd.testing
from syncd.testing import Simulated, live, run_simulator, simulator_options
from syncd_nppes.simulator_answers import Registry, Reply
from syncd_nppes.simulator_providers import Provider, invented

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
            await live(receive, send)
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


@asynccontextmanager
async def serve(simulator: Simulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, on `port` (0: any that is free); yield the base URL."""
    async with syncd.testing.serve(simulator, port=port) as address:
        yield f"{address}/api"


# --- As a program ---------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as a program; see `syncd.testing.run_simulator`."""
    parser = argparse.ArgumentParser(
        prog="python -m syncd_nppes.simulator",
        description="Serve a stand-in for the NPI registry on the loopback interface.",
    )
    simulator_options(parser)
    parser.add_argument("--providers", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--empty-every", type=int, help="of so many requests one finds nothing")
    options = parser.parse_args(arguments)
    providers = list(invented(options.providers, seed=options.seed))
    registry = Registry(providers, seed=options.seed, empty_every=options.empty_every)
    change = partial(_change, providers, Random(options.seed))  # noqa: S311  # no secrets
    run_simulator(Simulated(Simulator(registry), _configuration, change=change), options)


def _change(providers: Sequence[Provider], random: Random, share: float) -> int:
    chosen = random.sample(providers, k=round(share * len(providers)))
    for provider in chosen:
        provider.change()
    return len(chosen)


def _configuration(base_url: str) -> str:
    return f"""\
[connectors.nppes]
base_url = "{base_url}/api"
specialties = ["Internal Medicine", "Pediatrics", "Dermatology"]
places = ["TX", "CA"]
requests_per_second = 20

[connectors.nppes.leads]
specialties = ["Internal Medicine"]

[jobs.nppes]
connector = "nppes"
streams = ["providers", "leads"]
mode = "full"
"""


if __name__ == "__main__":
    main()
