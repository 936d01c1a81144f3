"""The upstream of a seed's world: its stand-in, the connector, its part of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from plan import Plan
from stand_ins import tiktok
from world import Upstream


@attrs.frozen
class Scene:
    """What a world is played with."""

    name: str  # of the plugin, its connector and its instance
    plugin: object
    host: str
    upstream: Upstream
    accounts: Mapping[str, int]  # pages of each
    tables: Callable[[Mapping[str, int]], str]  # the configuration of these accounts
    streams: tuple[str, ...]
    truth: str  # the query of what the tables hold
    window_seconds: float  # of its limit: how long a new process must not know what was spent


def scene_of(plan: Plan) -> Scene:
    """Build the upstream of a plan."""
    names = {f"store-{number:03d}": pages for number, pages in enumerate(plan.pages, start=1)}
    return _MAKERS[plan.scene](plan, names)


def _tiktok(plan: Plan, pages: Mapping[str, int]) -> Scene:
    upstream = tiktok.TikTok({name: 20 * count - 7 for name, count in pages.items()})

    def tables(accounts: Mapping[str, int]) -> str:
        lines = ["[connectors.tiktok]", "in_flight = 8"]
        for name in accounts:
            lines += ["[[connectors.tiktok.accounts]]", f'name = "{name}"', f'token = "act.{name}"']
        return "\n".join(lines)

    return Scene(
        name="tiktok",
        plugin=tiktok,
        host="open.tiktokapis.test",
        upstream=upstream,
        accounts=pages,
        tables=tables,
        streams=("videos",),
        truth=tiktok.TRUTH,
        window_seconds=1.0,
    )


_MAKERS: Mapping[str, Callable[[Plan, Mapping[str, int]], Any]] = {"tiktok": _tiktok}
