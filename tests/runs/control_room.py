"""Control tables as many runs have left them, and the commands of an operator on them.

Two connectors: `cars`, which is configured, and `shop`, which only the tables know, with tenants.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import database_facts as facts
import msgspec
import pytest
from upstream import API_KEY

from syncd.cli.commands import invoke

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

_TABLES = """
    INSERT INTO syncd.instance VALUES
        ('cars', 'cars', '1.0.0', syncd.clock()), ('shop', 'shop', '1.0.0', syncd.clock());
    INSERT INTO syncd.account (instance, name) VALUES
        ('cars', 'default'), ('shop', 'north'), ('shop', 'south');
    INSERT INTO syncd.partition
        (instance, account, feed, slice, due_at, claim_at, epoch, watermark, row_fingerprints)
    SELECT instance, account, feed, slice, m.at, m.at, 4, m.at - interval '1 day',
           '{"orders": {"row": "r", "version_rule": "v"}}'
    FROM (VALUES ('cars', 'default', 'cars', ''), ('cars', 'default', 'cars', 'priority'),
                 ('shop', 'north', 'orders', ''), ('shop', 'south', 'orders', ''),
                 ('shop', 'south', 'returns_all', ''))
         AS p (instance, account, feed, slice),
         (SELECT syncd.clock() - interval '1 hour' AS at) AS m;
    INSERT INTO syncd.pass (partition_id, number, mode, since, until, started_at, state, ended_at,
                            request_fingerprint, row_fingerprints, connector_version,
                            pages, records)
    SELECT id, n, 'incremental', watermark, due_at, due_at,
           CASE n WHEN 1 THEN 'partial' ELSE 'open' END, CASE n WHEN 1 THEN due_at END,
           'f', '{}', '1.0.0', 3, 40
    FROM syncd.partition, generate_series(1, 2) AS n WHERE instance = 'shop';
    INSERT INTO syncd.frontier (pass_id, cursor_key, cursor, kind, depth, ordinal, state, attempts,
                                failing_since, not_before, last_error)
    SELECT s.id, decode(lpad(c.n::text, 32, '0'), 'hex'), jsonb_build_object('order', c.n),
           c.kind, 1, c.n, c.state, c.attempts, CASE WHEN c.attempts > 0 THEN s.started_at END,
           syncd.clock() + c.wait, CASE WHEN c.attempts > 0 THEN 'GET /orders: 500' END
    FROM syncd.pass s JOIN (VALUES
        (1, 11, 'item', 'failed', 6, interval '10 min'), (1, 12, 'item', 'failed', 5, '-1 min'),
        (2, 21, 'item', 'open', 0, '0'), (2, 22, 'chain', 'closed', 0, '0'),
        (2, 23, 'item', 'open', 2, '1 min'))
        AS c (pass, n, kind, state, attempts, wait) ON c.pass = s.number;
    INSERT INTO syncd.run
        (job, partition_id, owner, epoch, status, message, started_at, finished_at)
    SELECT 'night', id, '00000000-0000-0000-0000-00000000000a', 4, 'waiting', 'some wait',
           due_at, due_at
    FROM syncd.partition WHERE instance = 'shop';
"""

_LEASE = """
    INSERT INTO syncd.daemon VALUES ('00000000-0000-0000-0000-00000000000b', 'moon', 4711, '9.9',
                                     syncd.clock(), syncd.clock()) ON CONFLICT DO NOTHING;
    UPDATE syncd.partition
    SET owner = '00000000-0000-0000-0000-00000000000b', epoch = epoch + 1,
        token = '00000000-0000-0000-0000-00000000000c',
        lease_until = syncd.clock() + interval '{seconds} s'
    WHERE instance = '{instance}' AND account = '{account}';
    INSERT INTO syncd.run (job, partition_id, owner, epoch, started_at)
    SELECT 'night', id, owner, epoch, syncd.clock() FROM syncd.partition
    WHERE instance = '{instance}' AND account = '{account}';
"""


@attrs.frozen
class Said:
    """What a command left: its exit code and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return msgspec.json.decode(self.out)


@attrs.frozen
class Room:
    """A database, and the console."""

    dsn: str
    file: Path
    capsys: pytest.CaptureFixture[str]

    def syncd(self, *words: str) -> Said:
        """Type a command; the key never shows."""
        self.capsys.readouterr()
        code = invoke(["-c", str(self.file), *words])
        said = self.capsys.readouterr()
        assert API_KEY not in said.out + said.err
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        return facts.rows(self.dsn, query, *parameters)

    def execute(self, statements: str) -> None:
        facts.execute(self.dsn, statements)

    def lease(self, instance: str, account: str, *, seconds: int = 600) -> None:
        """Let a process on the moon hold, or have held, an account's partitions."""
        self.execute(_LEASE.format(instance=instance, account=account, seconds=seconds))

    def everything(self) -> list[Any]:
        """Return all of the control tables, to see that nothing was changed."""
        tables: Sequence[str] = ("account", "partition", "pass", "frontier", "run", "quarantine")
        return [
            self.rows(f"SELECT to_jsonb(t) AS row FROM syncd.{name} t ORDER BY 1")
            for name in tables
        ]


def configuration(folder: Path, dsn: str) -> Path:
    """Write a configuration whose upstream is never asked."""
    file = folder / "syncd.toml"
    file.write_text(
        f"[database]\nurl = '''{dsn}'''\npool_max = 2\n"
        f'[connectors.cars]\napi_key = "{API_KEY}"\nbase_url = "http://127.0.0.1:1"\n'
        '[jobs.cars]\nconnector = "cars"\nstreams = ["cars", "lots"]\n'
    )
    return file


def room(dsn: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Room:
    """Open a room whose tables are empty."""
    return Room(dsn, configuration(folder, dsn), capsys)


def busy_room(dsn: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Room:
    """Open a room in which much has happened."""
    facts.execute(dsn, _TABLES)
    return room(dsn, folder, capsys)


def ago(**length: float) -> str:
    """Return a moment so long before now, as it is typed."""
    return (datetime.now(UTC) - timedelta(**length)).isoformat()
