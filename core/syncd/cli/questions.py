"""What `syncd check` asks the database. Each function is one transaction, and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from syncd.store.hops import Connection
from syncd.store.registry import STALE_SECONDS, Life


@attrs.frozen
class Server:
    """What the server tells about itself."""

    version: str
    read_only: bool
    may_create: bool  # schemas, for the data tables of an instance


def server(connection: Connection) -> Server:
    """Ask who answers."""
    row = connection.execute(
        "SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS read_only,"
        " has_database_privilege(current_database(), 'CREATE') AS may_create"
    ).fetchone()
    assert row is not None
    return Server(**row)


def life(connection: Connection) -> Life:
    """Ask who else works here and how many connections there may be; as if we worked here, too."""
    row = connection.execute(
        "SELECT 1 + (SELECT count(*) FROM syncd.daemon"
        "  WHERE heartbeat_at > syncd.clock() - make_interval(secs => %s)) AS daemons,"
        " current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true)::int, 0) AS max_connections,"
        " syncd.clock() AS clock",
        (STALE_SECONDS,),
    ).fetchone()
    assert row is not None
    return Life(**row)


@attrs.frozen
class Standing:
    """How a partition stands between two runs."""

    account: str
    slice: str
    slice_settings: Mapping[str, Any]
    watermark: datetime | None
    covered: Mapping[str, Any]  # row fingerprints of the last complete full pass
    parked: str | None  # why


def standings(connection: Connection, instance: str, feed: str) -> list[Standing]:
    """Ask how the partitions of a feed stand; those that never ran are not among them."""
    rows = connection.execute(
        "SELECT p.account, p.slice, p.slice_settings, p.watermark, p.row_fingerprints AS covered,"
        " coalesce(p.parked_reason, a.parked_reason) AS parked"
        " FROM syncd.partition AS p"
        " JOIN syncd.account AS a ON a.instance = p.instance AND a.name = p.account"
        " WHERE p.instance = %s AND p.feed = %s ORDER BY p.account, p.slice",
        (instance, feed),
    )
    return [Standing(**row) for row in rows]
