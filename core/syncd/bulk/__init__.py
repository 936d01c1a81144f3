"""Tables derived from classes, and rows written to them: exact counts, nothing older over newer.

Everything runs on a `psycopg.Connection` inside a transaction of the caller; nothing here commits
or rolls it back.
"""

from syncd.bulk.batch import Batch, Result
from syncd.bulk.ddl import apply, plan
from syncd.bulk.kinds import Column
from syncd.bulk.quarantine import quarantine
from syncd.bulk.tables import Table, table_of
from syncd.bulk.upsert import write
from syncd.bulk.versions import row_fingerprint, version_of

__all__ = [
    "Batch",
    "Column",
    "Result",
    "Table",
    "apply",
    "plan",
    "quarantine",
    "row_fingerprint",
    "table_of",
    "version_of",
    "write",
]
