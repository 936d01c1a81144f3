"""Serve the car simulator: in a test, or as a program."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import syncd.testing
from syncd.testing import Simulated, run_simulator, simulator_options
from syncd_cars.inventory import CARS, Inventory
from syncd_cars.simulator import Simulator


@asynccontextmanager
async def serve(simulator: Simulator, *, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends, on `port` (0: any that is free); yield the base URL."""
    async with syncd.testing.serve(simulator, port=port) as base_url:
        simulator.public_url = simulator.public_url or base_url
        yield base_url


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as a program; see `syncd.testing.run_simulator`."""
    options = _parser().parse_args(arguments)
    simulator = _simulator(options)

    def configuration(base_url: str) -> str:
        simulator.public_url = simulator.public_url or base_url  # what links begin with
        return _configuration(options, base_url)

    def change(share: float) -> int:
        return len(simulator.inventory.change(share, seed=options.seed))

    run_simulator(Simulated(simulator, configuration, change=change), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_cars.simulator",
        description="Serve a stand-in for AuctionsAPI on the loopback interface.",
    )
    simulator_options(parser)
    parser.add_argument(
        "--api-key", default=secrets.token_hex(16), help="what x-api-key must carry"
    )
    parser.add_argument("--cars", type=int, default=CARS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weight", choices=("demo", "real"), default="demo")
    parser.add_argument("--rate", type=float, help="requests a second; unlimited if left out")
    parser.add_argument("--burst", type=int, default=1, help="requests at once")
    parser.add_argument("--public-url", default="", help="what links begin with")
    parser.add_argument("--next-keeps-query", action="store_true")
    parser.add_argument("--control", action="store_true", help="open /_simulator/...")
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


def _configuration(options: argparse.Namespace, base_url: str) -> str:
    rate = "" if options.rate is None else f"requests_per_second = {options.rate!r}\n"
    return f"""\
[connectors.cars]
base_url = "{base_url}"
api_key = "{options.api_key}"
{rate}totals = true
priority_brands = []

[jobs.cars]
connector = "cars"
streams = ["cars", "lots"]
"""
