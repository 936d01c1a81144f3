"""Serve the TikTok simulator as a program."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from syncd.testing import Simulated, run_simulator, simulator_options
from syncd_tiktok.simulator import PREFIX, SCOPES, Simulator, TikTok

CLIENT = ("demo-client", "demo-secret")  # of the app: what the simulator invents, and takes

_JOBS = """
[jobs.tiktok-users]
connector = "tiktok"
streams = ["user_daily"]
mode = "full"

[jobs.tiktok-videos]
connector = "tiktok"
streams = ["videos", "video_daily"]
mode = "full"
after = ["tiktok-users"]
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as a program; see `syncd.testing.run_simulator`."""
    options = _parser().parse_args(arguments)
    upstream = _upstream(options)
    draw = Random(f"changes {options.seed}")  # noqa: S311 - no secret

    def configuration(base_url: str) -> str:
        return _configuration(upstream, base_url, endless=options.endless_tokens)

    def change(share: float) -> int:
        for store in upstream.stores.values():
            store.move(draw, share=share)
        return sum(round(share * len(store.videos)) for store in upstream.stores.values())

    credentials = () if options.endless_tokens else tuple(_credentials(upstream))
    run_simulator(Simulated(Simulator(upstream), configuration, credentials, change), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncd_tiktok.simulator",
        description="Serve a stand-in for TikTok's Display API on the loopback interface.",
    )
    simulator_options(parser)
    parser.add_argument("--stores", type=int, default=30)
    parser.add_argument("--videos", type=int, default=60, help="of each store")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", type=int, default=600, help="of each endpoint in any 60 seconds")
    parser.add_argument("--regime", choices=("2h", "24h"), default="2h", help="of tokens")
    parser.add_argument("--restless", action="store_true", help="stores move between two pages")
    parser.add_argument(
        "--endless-tokens",
        action="store_true",
        help="let each store in by the token act.NAME for ever, and write it in the configuration",
    )
    return parser


def _upstream(options: argparse.Namespace) -> TikTok:
    stores = {f"store-{number:03d}": options.videos for number in range(1, options.stores + 1)}
    upstream = TikTok(
        stores,
        seed=options.seed,
        limit=(options.calls, 60.0),
        regime=options.regime,
        client=CLIENT,
        restless=options.restless,
    )
    for name in stores:
        upstream.permit(name)
    return upstream


def _credentials(upstream: TikTok) -> Iterator[Mapping[str, str]]:
    """Yield what stores have granted, as rows for `syncd credentials import`."""
    for name, store in upstream.stores.items():
        grant = upstream.tokens.grant(name, tuple(SCOPES))
        yield {
            "account": name,
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "access_expires_at": grant.access_expires_at.isoformat(),
            "refresh_expires_at": grant.refresh_expires_at.isoformat(),
            "open_id": store.open_id,
            "scope": ",".join(grant.scopes),
        }


def _configuration(upstream: TikTok, base_url: str, *, endless: bool) -> str:
    client_key, client_secret = CLIENT
    lines = [
        f'[connectors.tiktok]\nbase_url = "{base_url}{PREFIX}"',
        f'client_key = "{client_key}"\nclient_secret = "{client_secret}"',
    ]
    for name in upstream.stores:
        lines.append(f'[[connectors.tiktok.accounts]]\nname = "{name}"')
        lines += [f'access_token = "act.{name}"'] if endless else []
    return "\n".join([*lines, _JOBS])
