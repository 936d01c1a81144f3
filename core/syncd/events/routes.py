"""The daemon's HTTP server: what upstreams tell us by themselves, and who is not heard."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


@attrs.frozen
class AdminListening(Event):
    """The HTTP server takes requests from now on."""

    name = "admin.listening"
    address: str
    routes: int  # of plugins


@attrs.frozen
class RouteReceived(Event):
    """A request to a plugin's route was answered, after what it brought was committed.

    `repeated`: its event id was known, and nothing was written.
    """

    name = "route.received"
    level = "debug"
    instance: str
    account: str
    route: str
    status: int
    repeated: bool
    records: int
    inserted: int
    updated: int
    unchanged: int
    stale: int
    quarantined: int
    duration_seconds: float


@attrs.frozen
class RouteRefused(Event):
    """A request to a plugin's route was answered with an error, and nothing of it was written.

    401: the plugin did not let it in; 404: no such account; 408, 413: its body; 500: the plugin
    failed; 503: the database is away, the daemon stops, or has too much to do. `times`: how many
    like it there were, unsaid, since the last one that was said.
    """

    name = "route.refused"
    level = "warning"
    instance: str
    route: str
    status: int
    reason: str
    times: int = 1
