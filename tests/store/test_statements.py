"""Every statement that ships is understood by the server, whichever release it is."""

from __future__ import annotations

import re
from importlib import resources

from syncd.store.hops import Connection
from syncd.store.statements import statements

QUERIES = resources.files("syncd_schemas").joinpath("queries")
EVERY = {
    f"{file.name.removesuffix('.sql')}.{name}": text
    for file in sorted(QUERIES.iterdir(), key=lambda file: file.name)
    if file.name.endswith(".sql")
    for name, text in statements(file.read_text("utf-8")).items()
}


def numbered(text: str) -> str:
    """Write ``%(name)s`` as PostgreSQL's own ``$1``, which psycopg does on the way."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1], len(numbers) + 1)}"

    return re.sub(r"%\((\w+)\)s", number, text).replace("%%", "%")


def test_each_statement_that_ships_can_be_prepared(connection: Connection) -> None:
    refused: dict[str, str] = {}
    connection.autocommit = True
    for name, text in EVERY.items():
        prepared = connection.pgconn.prepare(b"", numbered(text).encode())
        if prepared.error_message:
            refused[name] = prepared.error_message.decode()

    assert refused == {}
    assert len(EVERY) > 100


def test_what_no_release_understands_is_refused(connection: Connection) -> None:
    connection.autocommit = True
    prepared = connection.pgconn.prepare(b"", b"SELECT no_such_column FROM syncd.partition")

    assert b"no_such_column" in prepared.error_message
