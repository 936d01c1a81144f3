"""Serve the simulator as a program."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from random import Random

from syncd.testing import Simulated, run_simulator, simulator_options
from syncd_nhanh.simulator import APP_ID, Limit, Nhanh, Simulator
from syncd_nhanh.simulator_customers import Customers, with_holes

FIRST_BUSINESS = 110_001


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as a program; see `syncd.testing.run_simulator`."""
    options = _parser().parse_args(arguments)
    businesses = _businesses(options)
    nhanh = Nhanh(
        businesses,
        at=time.time(),
        gate=Limit(options.calls),
        real_statuses=options.real_statuses,
    )
    simulated = Simulated(
        Simulator(nhanh, seconds=options.seconds),
        partial(_configuration, list(businesses)),
        change=partial(_change, businesses, Random(options.seed)),  # noqa: S311  # no secrets
    )
    run_simulator(simulated, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_nhanh.simulator",
        description="Serve a stand-in for Nhanh.vn's open API on the loopback interface.",
    )
    simulator_options(parser)
    parser.add_argument("--businesses", type=int, default=3)
    parser.add_argument("--customers", type=int, default=2500, help="of each business")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.1, help="that each call takes")
    parser.add_argument("--calls", type=int, default=150, help="in any 30 seconds, of a business")
    parser.add_argument(
        "--real-statuses", action="store_true", help="429, 401 and the like in place of 200"
    )
    return parser


def _businesses(options: argparse.Namespace) -> dict[int, Customers]:
    number: int = options.customers
    return {
        FIRST_BUSINESS + each: Customers(number, seed=options.seed + each, gone=with_holes(number))
        for each in range(options.businesses)
    }


def _change(businesses: dict[int, Customers], random: Random, share: float) -> int:
    changed = 0
    for customers in businesses.values():
        living = customers.living
        for place in random.sample(living, k=round(share * len(living))):
            customers.change(place, time.time())
            changed += 1
    return changed


def _configuration(businesses: Sequence[int], base_url: str) -> str:
    accounts = "".join(
        f"""
[[connectors.nhanh.accounts]]
name = "store-{business}"
business_id = {business}
token = "token-{business}"
"""
        for business in businesses
    )
    return f"""\
[connectors.nhanh]
base_url = "{base_url}"
app_id = {APP_ID}
{accounts}
[jobs.nhanh]
connector = "nhanh"
"""
