"""The control tables: documented, guarded, and without a clock or dice of their own."""

from __future__ import annotations

from importlib import resources

import psycopg
import pytest

from syncd.errors import IncompatibleSchema
from syncd.store.hops import Connection
from syncd.store.migrations import migrate, missing, require, shipped
from syncd.store.statements import load


def test_every_table_and_column_has_a_comment(connection: Connection) -> None:
    bare = connection.execute(
        """
        SELECT c.relname, a.attname FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'syncd'
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'v')
          AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)
        """
    ).fetchall()

    assert bare == []


def test_no_default_trigger_or_statement_reads_a_clock_or_draws_randomness(
    connection: Connection,
) -> None:
    clocks = ("now()", "clock_timestamp", "current_timestamp", "localtime", "random", "gen_random")
    defaults = connection.execute(
        """
        SELECT pg_get_expr(d.adbin, d.adrelid) AS text FROM pg_attrdef d
        JOIN pg_class c ON c.oid = d.adrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'syncd'
        UNION ALL
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t
        JOIN pg_class c ON c.oid = t.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'syncd'
        WHERE NOT t.tgisinternal
        """
    ).fetchall()
    texts = [row["text"] for row in defaults]
    for file in resources.files("syncd_schemas").joinpath("queries").iterdir():
        texts += load(file.name.removesuffix(".sql")).values()

    assert len(texts) > 30
    assert [text for text in texts for clock in clocks if clock in text.lower()] == []


def test_impossible_rows_are_refused(connection: Connection) -> None:
    connection.execute("INSERT INTO syncd.instance VALUES ('i', 'p', '1', syncd.clock())")
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO syncd.account VALUES ('i', 'a', 'parked')")


def test_migrating_again_changes_nothing(connection: Connection) -> None:
    assert missing(connection) == []
    assert migrate(connection) == []


def test_newer_control_tables_are_refused(connection: Connection) -> None:
    connection.execute("INSERT INTO syncd.migration VALUES (9999, 'future', syncd.clock())")

    with pytest.raises(IncompatibleSchema, match="install the newer syncd"):
        require(connection)


def test_missing_control_tables_name_the_command_that_helps(server: str) -> None:
    with (
        psycopg.connect(server, row_factory=psycopg.rows.dict_row) as empty,
        pytest.raises(IncompatibleSchema, match="syncd migrate"),
    ):
        require(empty)

    assert [m.number for m in shipped()] == sorted(m.number for m in shipped())
