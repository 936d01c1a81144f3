"""The control tables' versions: which migrations there are, and which were applied."""

from __future__ import annotations

import re
from importlib import resources

import attrs

from syncd.errors import IncompatibleSchema
from syncd.sqlstates import repeatable
from syncd.store.hops import Connection

# Any number does, as long as nobody else in the database takes it: the first 8 bytes of
# blake2b("syncd migrations"), so that it collides with nobody's small constants.
_LOCK = 0x5CF1_3A90_77D2_41E6


@attrs.frozen
class Migration:
    number: int
    name: str
    text: str


def shipped() -> list[Migration]:
    """Return the migrations of this program, in order."""
    found = [
        Migration(int(match[1]), match[2], file.read_text("utf-8"))
        for file in resources.files("syncd_schemas").joinpath("sql").iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    ]
    return sorted(found, key=lambda migration: migration.number)


@repeatable
def applied(connection: Connection) -> int:
    """Return the number of the newest migration that was applied; 0 where there is none."""
    there = connection.execute("SELECT to_regclass('syncd.migration') IS NOT NULL AS there")
    if not there.fetchone()["there"]:  # type: ignore[index]
        return 0
    row = connection.execute("SELECT coalesce(max(number), 0) AS number FROM syncd.migration")
    return int(row.fetchone()["number"])  # type: ignore[index]


@repeatable
def missing(connection: Connection) -> list[Migration]:
    """Return the migrations that the database lacks.

    Raises: `IncompatibleSchema` where the control tables are newer than this program.
    """
    known, newest = shipped(), applied(connection)
    if newest > known[-1].number:
        raise IncompatibleSchema(
            "database",
            f"the control tables are at version {newest}, this program knows {known[-1].number}",
            "install the newer syncd that migrated them",
        )
    return [migration for migration in known if migration.number > newest]


def migrate(connection: Connection) -> list[str]:
    """Apply what is missing, under an advisory transaction lock; answer with the names."""
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    done = []
    for migration in missing(connection):
        connection.execute(migration.text)
        connection.execute(
            "INSERT INTO syncd.migration (number, name, applied_at) VALUES (%s, %s, syncd.clock())",
            (migration.number, migration.name),
        )
        done.append(f"{migration.number:04} {migration.name}")
    return done


@repeatable
def require(connection: Connection) -> None:
    """Refuse to work on control tables of another version.

    Raises: `IncompatibleSchema`, with the command that helps.
    """
    if lacking := missing(connection):
        raise IncompatibleSchema(
            "database",
            f"the control tables lack {len(lacking)} migration(s), first {lacking[0].name!r}",
            "run `syncd migrate`",
        )
