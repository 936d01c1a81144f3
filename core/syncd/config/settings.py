"""What may be configured: one class per table, one field per key, its meaning beside it."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
from cronsim import CronSim, CronSimError

from syncd.config.admin import Admin
from syncd.config.kinds import Words
from syncd.config.quotas import QuotaTable
from syncd.config.values import (
    Duration,
    Size,
    Unwanted,
    between,
    counting,
    did_you_mean,
    lasting,
    sized,
)
from syncd.events import Level
from syncd.model import Instance, OnAbsent, Secret
from syncd.rounds import Thresholds

ABOUT_EFFECTS = 'the NAME of [connectors.NAME] that delivers it, where several could; or "off"'


def about(meaning: str) -> dict[str, Any]:
    """Say what a key means, for the JSON Schema and the reference."""
    return {"about": meaning}


def _postgresql(_instance: object, _attribute: object, value: Secret | None) -> None:
    """Refuse what cannot be a connection string, before a driver quotes it in an error."""
    if value is None:
        return
    text = value.reveal()
    if not text.startswith(("postgresql://", "postgres://")) and "=" not in text:
        raise Unwanted("wanted postgresql://USER:PASSWORD@HOST:PORT/NAME, or KEY=VALUE pairs")


@attrs.frozen
class Database:
    """PostgreSQL: where it is, and how long anything there may take."""

    url: Secret | None = attrs.field(
        default=None,
        validator=_postgresql,
        metadata=about("connection string; without it, PostgreSQL runs embedded in the data_dir"),
    )
    pool_max: int = attrs.field(
        default=10,
        validator=between(1, 1000),
        metadata=about(
            "connections at most; DB_POOL_SIZE in the environment overrides it, and what the "
            "server allows bounds it"
        ),
    )
    pool_min: int = attrs.field(
        default=1,
        validator=between(0, 1000),
        metadata=about(
            "connections held open while idle; DB_POOL_MIN in the environment overrides it"
        ),
    )
    statement_timeout_seconds: Duration = attrs.field(
        default=60.0,
        validator=lasting("100ms", "1d"),
        metadata=about("the longest a statement may run"),
    )
    connect_timeout_seconds: Duration = attrs.field(
        default=10.0,
        validator=lasting("1s", "10m"),
        metadata=about("the longest a connection may take to be made"),
    )
    lock_timeout_seconds: Duration = attrs.field(
        default=5.0,
        validator=lasting("10ms", "1d"),
        metadata=about("the longest a statement may wait for a lock"),
    )


@attrs.frozen
class Daemon:
    """The process: where it keeps its files, and what time it is given."""

    data_dir: Path = attrs.field(
        default=Path("syncd-data"),
        metadata=about("where the embedded PostgreSQL lives, relative to this file's folder"),
    )
    lease_seconds: Duration = attrs.field(
        default=30.0,
        # Below a second, a pause of the scheduler or of the server would lose leases.
        validator=lasting("1s", "1h"),
        metadata=about(
            "how long a partition stays ours without renewal: how late another daemon goes on "
            "after this one was killed"
        ),
    )
    history_seconds: Duration = attrs.field(
        default=90 * 86400.0,
        validator=lasting("1h", "3660d"),
        metadata=about("how long runs and rounds stay in the history"),
    )
    drain_timeout_seconds: Duration = attrs.field(
        default=25.0,  # Kubernetes kills 30 s after SIGTERM (terminationGracePeriodSeconds)
        validator=lasting("0s", "1h"),
        metadata=about("how long a stop may take to commit what is fetched"),
    )
    effects_max: int = attrs.field(
        default=100_000,
        validator=counting(1, 100_000_000),
        metadata=about(
            "undelivered effects of one kind above which nothing is fetched that may produce more "
            "of it"
        ),
    )
    memory_max_bytes: Size | None = attrs.field(
        default=None,
        # Less than that a process takes before it does anything.
        validator=sized("64MiB", "1024TiB"),
        metadata=about(
            "resident memory above which the process stops in good order with exit code 75, for a "
            "supervisor to start it anew; without it, memory is not watched"
        ),
    )


@attrs.frozen
class Log:
    """What is said, how and where."""

    destination: Literal["stderr", "stdout"] = attrs.field(
        default="stderr", metadata=about("where log lines go")
    )
    level: Level = attrs.field(default="info", metadata=about("the least level that is logged"))
    format: Literal["auto", "json", "text"] = attrs.field(
        default="auto", metadata=about("auto: JSON, unless the destination is a terminal")
    )


_LEDGERS = ("off", "postgres")


def _ledger(_instance: object, _attribute: object, value: Secret) -> None:
    text = value.reveal()
    if text not in _LEDGERS and not text.startswith(("redis://", "rediss://", "unix://")):
        raise Unwanted('wanted "off", "postgres", or redis://USER:PASSWORD@HOST:PORT/NUMBER')


@attrs.frozen
class Sharing:
    """What quotas are to several processes on one database."""

    shared: Annotated[Secret, Words(_LEDGERS)] = attrs.field(
        default=Secret("off"),
        validator=_ledger,
        metadata=about(
            "off: each process keeps to every quota by itself; postgres: all processes together, "
            "through the database; redis://, rediss:// (TLS) or unix://: through Redis or Valkey, "
            "with `pip install 'syncd[redis]'`"
        ),
    )

    @property
    def ledger(self) -> Literal["off", "postgres", "redis"]:
        text = self.shared.reveal()
        return "off" if text == "off" else "postgres" if text == "postgres" else "redis"


@attrs.frozen
class VaultKeys:
    """What secrets are sealed with before they are kept in the database."""

    keys: tuple[Secret, ...] = attrs.field(
        default=(),
        metadata=about(
            "keys as `syncd credentials new-key` prints them, the newest first: that one seals, "
            "each opens; without any, the embedded PostgreSQL's data_dir holds one"
        ),
    )


@attrs.frozen
class AccountTable:
    """One tenant of a connector; beside these keys, those that the connector defines."""

    name: str = attrs.field(
        metadata=about(
            "its name: at most 63 letters, digits, '_', '-', '.', unique in whatever case"
        )
    )
    weight: float = attrs.field(
        default=1.0,
        validator=between(0.1, 100),
        metadata=about("its share of a quota while other accounts wait for it, too"),
    )


@attrs.frozen
class StreamTable:
    """One stream of a connector; what is left out stays as the connector says."""

    on_absent: OnAbsent | None = attrs.field(
        default=None,
        metadata=about(
            "what becomes of rows whose records the upstream no longer has, after full passes "
            "that ended complete: they stay, are marked in _syncd_absent_at, or are deleted"
        ),
    )


@attrs.frozen
class ConnectorTable:
    """A configured connector; beside these keys, those that the connector defines."""

    plugin: str | None = attrs.field(
        default=None, metadata=about("the connector's name, where it is not the table's own")
    )
    accounts: tuple[AccountTable, ...] = attrs.field(
        default=(), metadata=about("the tenants, where the upstream has any")
    )
    private_network: bool = attrs.field(
        default=False,
        metadata=about(
            "whether names may lead to private addresses and to this machine; a base_url with "
            "such an address in place of a name needs no leave"
        ),
    )
    streams: Mapping[str, StreamTable] = attrs.field(
        factory=dict, metadata=about("by stream, what is to be otherwise than the connector says")
    )
    quotas: Mapping[str, QuotaTable] = attrs.field(
        factory=dict, metadata=about("what is to be kept in place of what the connector declares")
    )


def _timezone(_instance: object, _attribute: object, value: str) -> None:
    try:
        zoneinfo.ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # OSError: "Asia" is a folder of time zones
        near = did_you_mean(value, zoneinfo.available_timezones())
    else:
        return
    raise Unwanted(f"wanted a time zone such as Asia/Ho_Chi_Minh{near}")


def _cron(instance: Any, _attribute: object, value: str | None) -> None:
    if value is None:
        return
    try:
        CronSim(value, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as exc:
        wanted = "wanted minute, hour, day, month, weekday as in crontab(5)"
        raise Unwanted(f"{wanted}: {str(exc).lower()}") from None
    if instance.every_seconds is not None:
        raise Unwanted("but every is given, too; keep one of them")


def _share(_instance: object, _attribute: object, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise Unwanted("wanted a share between 0 and 1, such as 0.95")


@attrs.frozen
class Job:
    """A schedule of streams; without every and cron it runs when it is asked to."""

    name: str = attrs.field(metadata={"named": True})  # the name of its table
    connector: str = attrs.field(metadata=about("the NAME of a table [connectors.NAME]"))
    streams: tuple[str, ...] = attrs.field(
        default=(), metadata=about("the streams to keep in step; by default all of the connector")
    )
    mode: Literal["full", "incremental"] = attrs.field(
        default="incremental",
        metadata=about("walk everything, or what changed since the last pass"),
    )
    every_seconds: Duration | None = attrs.field(
        default=None, validator=lasting("1s", "366d"), metadata=about("the interval between runs")
    )
    cron: str | None = attrs.field(
        default=None,
        validator=_cron,
        metadata=about("the moments of runs, as in crontab(5); in place of every"),
    )
    timezone: str = attrs.field(
        default="UTC", validator=_timezone, metadata=about("the time zone of cron")
    )
    concurrency: int = attrs.field(
        default=4,
        validator=between(1, 1000),
        metadata=about(
            "partitions at once, if the connector does not say otherwise; SYNC_CONCURRENCY, or a "
            "variable of the connector's or feed's own, in the environment overrides it"
        ),
    )
    jitter_seconds: Duration = attrs.field(
        default=0.0,
        validator=lasting("0s", "1d"),
        metadata=about("over how long a round's partitions are spread, so as not to come at once"),
    )
    overlap: Literal["skip", "queue"] = attrs.field(
        default="skip",
        metadata=about(
            "a moment that comes while the round before still runs: let it pass by, or "
            "begin another round right after"
        ),
    )
    after: tuple[str, ...] = attrs.field(
        default=(),
        metadata=about("jobs after which a round begins, once each of them has ended well"),
    )
    partial_below: float = attrs.field(
        default=1.0,
        validator=_share,
        metadata=about(
            "a round is partial where less than this share of its partitions is complete"
        ),
    )
    failed_below: float = attrs.field(
        default=0.9,
        validator=_share,
        metadata=about("and with less than this share it failed"),
    )
    failed_items_max: int | None = attrs.field(
        default=None,
        validator=counting(0, 10_000_000),
        metadata=about(
            "items of a pass that may fail for good before its partition is parked, those of an "
            "outage not counted; by default 100, or one in a hundred where that is more"
        ),
    )
    partitions_per_account: int = attrs.field(
        default=1, validator=between(1, 1000), metadata=about("partitions of one account at once")
    )

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(self.partial_below, self.failed_below)

    @property
    def schedule(self) -> str:
        """Return the schedule as text: where that changes, the next moment is reckoned anew."""
        if self.cron is not None:
            return f"cron {self.cron} {self.timezone}"
        return "" if self.every_seconds is None else f"every {self.every_seconds:g} s"


def _names(mapping: Mapping[str, Any]) -> str:
    return f"<{', '.join(mapping)}>"


@attrs.frozen
class Config:
    """A configuration without problems."""

    database: Database
    daemon: Daemon
    log: Log
    quota: Sharing
    vault: VaultKeys
    effects: Mapping[str, str]  # by kind: the instance that delivers it, or "off"
    # Settings of plugins are not shown: a variable may have put anything into their texts.
    instances: Mapping[str, Instance[Any]] = attrs.field(repr=_names)
    jobs: Mapping[str, Job] = attrs.field(repr=_names)
    file: str
    warnings: tuple[str, ...] = ()
    admin: Admin = attrs.field(factory=Admin)
