"""A stand-in for Ship24's tracking API, served over real HTTP.

It keeps to what public sources tell of that API: trackers that the same body names again, bulks
whose items come in any order, limits a second for each endpoint, webhooks that come more than once.
Parcels move where a test, or a line of its input, tells them to. What it answers is decided by
`simulator_answers.Ship24`. It may be a process of its own:

    python -m syncd_ship24.simulator --port 0 --trackers 300
"""

from __future__ import annotations

from syncd.testing import Application, Call, Reply
from syncd_ship24.simulator_answers import (
    API_KEY,
    WEBHOOK_SECRET,
    Asked,
    Ship24,
)
from syncd_ship24.simulator_parcels import JOURNEY, Parcel
from syncd_ship24.simulator_webhooks import Webhook

__all__ = ["API_KEY", "JOURNEY", "WEBHOOK_SECRET", "Asked", "Call", "Parcel", "Reply", "Ship24",
           "Simulator", "Webhook"]  # fmt: skip

PREFIX = "/public/v1"  # of all paths, as behind the real host


class Simulator(Application):
    """An ASGI application that answers for the upstream below `/public/v1`."""

    def __init__(self, upstream: Ship24) -> None:
        super().__init__(upstream, prefix=PREFIX)
        self.upstream = upstream


if __name__ == "__main__":
    from syncd_ship24.simulator_serving import main

    main()
