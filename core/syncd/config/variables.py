"""Numbers that the environment sets in place of the file's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from syncd.config.reading import INVALID, Invalid, Reading
from syncd.config.settings import Database, Job
from syncd.config.values import Range
from syncd.model import Connector, Feed

POOL_MAX: Final = "DB_POOL_SIZE"
POOL_MIN: Final = "DB_POOL_MIN"
CONCURRENCY: Final = "SYNC_CONCURRENCY"


def _number(variable: str, cls: type[Any], field: str, reading: Reading) -> int | None:
    """Read a variable by the bounds of a field; `None` where it is not set, or is wrong.

    Empty counts as not set: that is how container files pass on what they were not given.
    """
    text = reading.environment.get(variable, "").strip()
    if not text:
        return None
    bounds: Range = attrs.fields_dict(cls)[field].validator  # type: ignore[assignment]
    wanted = f"wanted an integer from {bounds.least_text} to {bounds.most_text}"
    if not re.fullmatch(r"[0-9]{1,9}", text) or not bounds.least <= int(text) <= bounds.most:
        reading.unwanted(f"{variable} (environment)", text, wanted)
        return None
    return int(text)


def with_pool(database: Database | Invalid, reading: Reading) -> Database | Invalid:
    """Put the environment's pool sizes in place of the file's, and compare the two."""
    pool_max = _number(POOL_MAX, Database, "pool_max", reading)
    pool_min = _number(POOL_MIN, Database, "pool_min", reading)
    if database is INVALID:
        return INVALID
    if pool_max is not None:
        database = attrs.evolve(database, pool_max=pool_max)
    if pool_min is not None:
        database = attrs.evolve(database, pool_min=pool_min)
    if database.pool_min <= database.pool_max:
        return database
    set_by = [POOL_MIN] * (pool_min is not None) + [POOL_MAX] * (pool_max is not None)
    return reading.problem(
        f"{set_by[0]} (environment)" if set_by else "database.pool_min",
        f"pool_min is {database.pool_min}, wanted at most pool_max, which is {database.pool_max}",
    )


def concurrency_of(
    connector: Connector, feeds: Iterable[Feed], numbers: Mapping[str, int]
) -> int | None:
    """Find what overrides the concurrency of a job of these feeds: their variable, or everyone's.

    The feed's own, else the connector's, else SYNC_CONCURRENCY; of several feeds, the lowest. Who
    has a variable of its own does not hear the others, also where that one is not set: what suits
    most upstreams is said not to suit this one.
    """
    names = {_variable(connector, feed) for feed in feeds} or {_variable(connector)}
    return min((numbers[name] for name in names if name in numbers), default=None)


def _variable(connector: Connector, feed: Feed | None = None) -> str:
    own = feed.concurrency_variable if feed else None
    return own or connector.concurrency_variable or CONCURRENCY


def concurrencies(connectors: Iterable[Connector], reading: Reading) -> dict[str, int]:
    """Read every variable that overrides a concurrency, by its name."""
    names = {CONCURRENCY: None}
    for connector in connectors:
        names |= dict.fromkeys(_variable(connector, feed) for feed in (None, *connector.feeds))
    found = {name: _number(name, Job, "concurrency", reading) for name in names}
    return {name: number for name, number in found.items() if number is not None}
