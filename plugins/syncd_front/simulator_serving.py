"""Serve the Front simulator as a program."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from random import Random

from syncd.testing import Simulated, run_simulator, simulator_options
from syncd_front.simulator import FRONT, LLM, Company, Front, Model, Simulator

TOKEN = "front-token"  # noqa: S105 - what the simulator invents, and takes
KEY = "sk-demo"

_JOB = """
[jobs.front]
connector = "front"
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as a program; see `syncd.testing.run_simulator`."""
    options = _parser().parse_args(arguments)
    company = Company("acme", options.conversations, seed=options.seed, newest=time.time())
    front = Front(company, token=TOKEN, calls=options.calls)
    model = Model(key=KEY) if options.model else None
    draw = Random(f"changes {options.seed}")  # noqa: S311 - no secret

    def change(share: float) -> int:
        names = list(company.conversations)
        chosen = draw.sample(names, k=round(share * len(names)))
        for name in chosen:
            company.reply(name, at=time.time(), parcels=1)
        return len(chosen)

    def configuration(base_url: str) -> str:
        return _configuration(base_url, options)

    run_simulator(Simulated(Simulator(front, model), configuration, change=change), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_front.simulator",
        description="Serve a stand-in for Front, and for a model, on the loopback interface.",
    )
    simulator_options(parser)
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", type=int, help="a minute: 50, 100 or 200; without it, any")
    parser.add_argument("--model", action="store_true", help="have a model extract")
    parser.add_argument(
        "--register-trackers", action="store_true", help="have each shipment tracked"
    )
    return parser


def _configuration(base_url: str, options: argparse.Namespace) -> str:
    lines = [f'[connectors.front]\nbase_url = "{base_url}{FRONT}"']
    if options.model:
        # By another name of the same host: each has its own credential.
        beside = base_url.replace("127.0.0.1", "localhost")
        lines.append(f'llm_base_url = "{beside}{LLM}"\nllm_api_key = "{KEY}"')
    if options.register_trackers:
        lines.append("register_trackers = true")
    plan = {50: "starter", 100: "professional"}.get(options.calls, "enterprise")
    lines.append(
        f'[[connectors.front.accounts]]\nname = "acme"\ntoken = "{TOKEN}"\nplan = "{plan}"'
    )
    if options.calls is None:
        # Nobody limits it: the demo need not wait for minutes.
        lines.append('[connectors.front.quotas.core]\nrequests = 6000\nper = "60s"')
    return "\n".join([*lines, _JOB])
