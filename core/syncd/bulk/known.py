"""Which records of a batch the table knows already, by their hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import psycopg
from psycopg.rows import tuple_row

from syncd.bulk.hashes import Key
from syncd.bulk.staging import UNSENDABLE, encoded, run_from_arrays
from syncd.bulk.statements import hash_look_of
from syncd.bulk.tables import Table
from syncd.sqlstates import repeatable

# First so many records of a batch are looked up, spread evenly: where none of them is known, as in
# a first pass, the others are not looked up at all. With one in ten known, all fifty miss once in
# two hundred times.
_SAMPLE = 50


@attrs.frozen
class Candidates:
    """One table's records that may be known: their hashes, and how to read keys, by places.

    What has no hash or no key is not known.
    """

    table: Table
    hashes: Sequence[bytes | None]
    keys_at: Callable[[Sequence[int]], Sequence[Key | None]]


@attrs.frozen
class Known:
    """The places of the records whose row is there with that hash.

    `fresh`: of all that were looked up, no row was there.
    """

    places: frozenset[int] = frozenset()
    fresh: bool = False


@repeatable
def known(
    conn: psycopg.Connection[Any], among: Sequence[Candidates], *, account: str
) -> list[Known]:
    """Answer, for each table, which of its records are known.

    In a transaction of its own: what a server or a dumper refuses is known as little as a new
    record, and the transaction is then to be ended.
    """
    found: list[Known] = []
    try:
        with psycopg.Cursor(conn, row_factory=tuple_row) as cursor:
            found.extend(_known(cursor, each, account) for each in among)
    except (*UNSENDABLE, psycopg.DataError):
        pass  # an integer of more than 64 bits, text with a NUL: its row says so by itself
    return found + [Known()] * (len(among) - len(found))


def _known(cursor: psycopg.Cursor[Any], among: Candidates, account: str) -> Known:
    places = [i for i, digest in enumerate(among.hashes) if digest is not None]
    if len(places) > 4 * _SAMPLE:
        sample = _equal(cursor, among, places[:: len(places) // _SAMPLE], account)
        if not sample.places:
            return sample
    return _equal(cursor, among, places, account)


def _equal(
    cursor: psycopg.Cursor[Any], among: Candidates, places: Sequence[int], account: str
) -> Known:
    pairs = zip(places, among.keys_at(places), strict=True)
    keys = {place: key for place, key in pairs if key is not None}
    if not keys:
        return Known()
    look = hash_look_of(among.table)
    columns = [
        list(keys),
        *zip(*keys.values(), strict=True),
        [among.hashes[place] for place in keys],
    ]
    differing, there = run_from_arrays(
        cursor,
        look.query,
        stage=look.stage,
        columns=encoded(look.stage, columns),
        parameters={"account": account},
    )
    return Known(frozenset(keys).difference(differing), fresh=not there)
