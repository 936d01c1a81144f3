"""Tables from streams: schema, name, columns, key and indexes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import Any

import attrs

from syncd.bulk.columns import NAME_MAX_BYTES, TableColumn, Values, columns_of, values_of
from syncd.bulk.kinds import kind_of
from syncd.bulk.versions import VersionOf, version_of
from syncd.errors import ConfigError
from syncd.model import OnAbsent, Stream, WriteMode

ACCOUNT = "account_id"
WRITTEN_AT = "_syncd_written_at"
VERSION = "_syncd_version"
HASH = "_syncd_hash"
ABSENT_AT = "_syncd_absent_at"


@attrs.frozen
class Index:
    """An index that is not the primary key."""

    name: str
    columns: tuple[str, ...]


@attrs.frozen(cache_hash=True)
class Table:
    """One stream's table, ``<instance>.<stream>``.

    `columns` are those of the row class, in its order; `key` are names of columns. Before them
    stands `account_id` where `per_account`, behind them the system columns `_syncd_written_at`,
    `_syncd_version`, where `hashed`, `_syncd_hash` and, where rows of records that are gone are
    marked, `_syncd_absent_at`. `volatile` are columns that are not
    compared. `values` takes a row object's values off it, in the order of `columns`;
    `key_of` takes the key off those: one value, or a tuple. `version` is `version_of` the stream.

    Every column but those of the key is nullable, whatever the class says: a field that is added
    later becomes a column of a table that has rows already, and a record that lacks a value is the
    class's business when it is decoded, not the table's.
    """

    schema: str
    name: str
    mode: WriteMode
    per_account: bool
    columns: tuple[TableColumn, ...]
    key: tuple[str, ...]
    indexes: tuple[Index, ...]
    volatile: frozenset[str]
    hashed: bool
    on_absent: OnAbsent
    values: Values = attrs.field(eq=False, repr=False)
    key_of: Callable[[tuple[Any, ...]], Any] = attrs.field(eq=False, repr=False)
    version: VersionOf = attrs.field(eq=False, repr=False)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The key as the table has it; empty where rows are only appended."""
        return (ACCOUNT, *self.key) if self.per_account and self.key else self.key

    @property
    def marks(self) -> bool:
        """Whether rows of records that are gone are marked."""
        return self.on_absent == "mark"

    @property
    def data(self) -> tuple[str, ...]:
        """The columns that say something about a row beside which one it is."""
        return tuple(column.name for column in self.columns if column.name not in self.key)

    @property
    def compared(self) -> tuple[str, ...]:
        """The columns in which a changed row differs."""
        return tuple(name for name in self.data if name not in self.volatile)


def table_of(instance_name: str, stream: Stream) -> Table:
    """Answer the table that a stream of an instance is written to.

    Raises: `ConfigError` naming what is wrong: a name, a field's type, the key, an index.
    """
    where = f"{instance_name}.{stream.name}"
    _refuse_names(where, instance_name, stream.name)
    columns = columns_of(stream.row_class)
    known = {column.name: column for column in columns}
    if stream.per_account and ACCOUNT in known:
        said = f"{stream.row_class.__qualname__} has a field {ACCOUNT!r}, and the stream is"
        raise ConfigError(where, f"{said} per account", "rename the field")
    key = tuple(_column_named(where, stream, name, known) for name in stream.key)
    _refuse_key(where, stream, [known[name] for name in key])
    if stream.per_account:
        known[ACCOUNT] = TableColumn(ACCOUNT, kind_of(str, None), ())
    volatile = {_column_named(where, stream, name, known) for name in stream.volatile}
    if volatile & set(key):
        said = f"a part of the key is volatile: {', '.join(sorted(volatile & set(key)))}"
        raise ConfigError(where, said, "name fields that say nothing about which row it is")
    redacted = [field.replace(".", "_") for field in stream.redact]
    if kept := [name for name in key for each in redacted if f"{name}_".startswith(f"{each}_")]:
        said = f"a part of the key is to be redacted: {', '.join(kept)}"
        raise ConfigError(where, said, "a record in quarantine is known by its key")
    if stream.on_absent != "keep" and stream.mode != "upsert":
        said = f"rows of mode {stream.mode} are there once for all, and on_absent is not 'keep'"
        raise ConfigError(where, said, "leave it out, or say mode 'upsert'")
    indexes = [
        _index(stream.name, tuple(_column_named(where, stream, name, known) for name in names))
        for names in stream.indexes
    ]
    return Table(
        schema=instance_name,
        name=stream.name,
        mode=stream.mode,
        per_account=stream.per_account,
        columns=columns,
        key=key,
        indexes=tuple(dict.fromkeys(indexes)),
        volatile=frozenset(volatile),
        hashed=stream.mode == "upsert" and stream.shortcut != "off",
        on_absent=stream.on_absent,
        values=values_of(columns),
        key_of=itemgetter(*(list(known).index(name) for name in key) if key else (0,)),
        version=version_of(stream),
    )


def _refuse_names(where: str, schema: str, name: str) -> None:
    for part in (schema, name):
        if not part or "\0" in part or len(part.encode()) > NAME_MAX_BYTES:
            said = f"{part!r} cannot be a name in PostgreSQL"
            raise ConfigError(where, said, f"choose one of 1 to {NAME_MAX_BYTES} bytes")
    if schema in {"syncd", "information_schema"} or schema.startswith("pg_"):
        said = f"the schema {schema!r} belongs to {'syncd' if schema == 'syncd' else 'PostgreSQL'}"
        raise ConfigError(where, said, "give the instance another name")


def _column_named(where: str, stream: Stream, field: str, known: dict[str, TableColumn]) -> str:
    name = field.replace(".", "_")
    if name not in known:
        said = f"{field!r} is no field of {stream.row_class.__qualname__}"
        raise ConfigError(where, said, f"choose from {', '.join(sorted(known))}")
    return name


def _refuse_key(where: str, stream: Stream, key: Sequence[TableColumn]) -> None:
    if stream.mode == "append" and key:
        raise ConfigError(where, "appended rows have no key", "leave out the key")
    if stream.mode != "append" and not key:
        do = f"name the fields that tell two rows of {stream.row_class.__qualname__} apart"
        raise ConfigError(where, f"mode {stream.mode} needs a key", do)
    if len(set(key)) < len(key):
        raise ConfigError(where, "the key names a field twice", "name it once")
    for column in key:
        # What is equal in Python must be equal in the table: NaN and roundings are not.
        if column.kind.sql in {"jsonb", "double precision", "real"} or "numeric" in column.kind.sql:
            said = f"a {column.kind.sql} such as {column.name!r} cannot be part of a key"
            raise ConfigError(where, said, "use int, str, date, datetime, UUID, bool or bytes")


def _index(table: str, columns: tuple[str, ...]) -> Index:
    name = f"{table}_{'_'.join(columns)}_idx"
    if len(name.encode()) > NAME_MAX_BYTES:
        mark = blake2b(name.encode(), digest_size=8).hexdigest()
        cut = name.encode()[: NAME_MAX_BYTES - len(mark) - 1].decode(errors="ignore")
        name = f"{cut}_{mark}"
    return Index(name, columns)
