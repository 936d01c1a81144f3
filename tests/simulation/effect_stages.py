"""The stages of effects: registrations at Ship24 behind a week of mail, and a queue of them."""

from __future__ import annotations

import attrs
from stages import Stage, week_of_mail
from stand_ins import ship24

from syncd_ship24 import plugin


def tracked_mail(small: bool, *, mode: ship24.Mode) -> Stage:
    """The week of mail, whose shipments are registered at Ship24 behind it."""
    mail = week_of_mail(small)
    tables = mail.configuration.replace(
        "[connectors.front]", "[connectors.front]\nregister_trackers = true"
    )
    return attrs.evolve(
        mail,
        plugins={**mail.plugins, "ship24": plugin},
        configuration=f"{ship24.configuration()}{tables}",
        others={ship24.HOST: ship24.Upstream(mode=mode)},
    )


def drained(small: bool) -> Stage:
    """Trackers that wait to be registered, in bulks of 100 of which Ship24 takes three a second.

    Ideal: the limit's pace, and the first call's way there and back.
    """
    queued = 5_000 if small else 10_000
    upstream = ship24.Upstream()
    return Stage(
        plugins={"ship24": plugin},
        host=ship24.HOST,
        upstream=upstream,
        judge=upstream.judge,
        configuration=ship24.configuration(),
        rows=(ship24.DELIVERED, queued),
        ideal_seconds=queued / plugin.REGISTER.bulk_max / ship24.ALLOWED.per_second,
        reach=1 / 0.95,
        refused_max=1e-9,
        queued=queued,
    )
