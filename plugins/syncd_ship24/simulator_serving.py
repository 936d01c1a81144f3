"""Serve the Ship24 simulator as a program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from syncd.testing import Posted, Simulated, post_all, run_simulator, simulator_options
from syncd_ship24.simulator import API_KEY, JOURNEY, PREFIX, WEBHOOK_SECRET, Ship24, Simulator

WEBHOOK = "/plugins/ship24/webhook"  # of the instance that `_configuration` names
MOVES_SHARE = 0.3  # of the parcels, before webhooks tell of it: nobody asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as a program; see `syncd.testing.run_simulator`."""
    options = _parser().parse_args(arguments)
    upstream = _upstream(options)
    simulated = Simulated(
        Simulator(upstream), _configuration, change=upstream.move, post=partial(_post, upstream)
    )
    run_simulator(simulated, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_ship24.simulator",
        description="Serve a stand-in for Ship24's API on the loopback interface.",
    )
    simulator_options(parser)
    parser.add_argument("--trackers", type=int, default=25, help="that are there from the first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.05, help="that each call takes")
    parser.add_argument("--quota", type=int, help="trackers that may yet be made; any number")
    return parser


def _upstream(options: argparse.Namespace) -> Ship24:
    upstream = Ship24(seed=options.seed, seconds=options.seconds)
    for number in range(options.trackers):
        parcel, _ = upstream.register({"trackingNumber": f"DEMO{options.seed:03}{number:06}"})
        upstream.happen(parcel, number % (len(JOURNEY) + 1))
    upstream.quota = options.quota
    return upstream


async def _post(upstream: Ship24, base_url: str) -> Posted:
    """Let parcels move, and post what there is to tell."""
    upstream.move(MOVES_SHARE)
    webhooks = upstream.webhooks
    return await post_all(f"{base_url}{WEBHOOK}", [*webhooks.due()], answered=webhooks.answered)


def _configuration(base_url: str) -> str:
    return f"""\
[connectors.ship24]
base_url = "{base_url}{PREFIX}"
api_key = "{API_KEY}"
webhook_secret = "{WEBHOOK_SECRET}"

[jobs.ship24]
connector = "ship24"
"""
