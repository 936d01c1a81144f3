"""Tables derived from classes, and rows written to them: exact counts, nothing older over newer.

Everything runs on a `psycopg.Connection` inside a transaction of the caller; nothing here commits
or rolls it back.
"""

from syncd.bulk.batch import Batch, Result
from syncd.bulk.bisect import TooManyRefused
from syncd.bulk.classes import set_field, stand_in
from syncd.bulk.ddl import apply, plan
from syncd.bulk.hashes import Hasher, Key, KeyReader, is_whole, key_reader, presence_reader
from syncd.bulk.jsonb import documents
from syncd.bulk.kinds import Column
from syncd.bulk.known import Candidates, Known, known
from syncd.bulk.presence import Judged, absent, remember, remove, unmark
from syncd.bulk.quarantine import key_text, quarantine
from syncd.bulk.tables import Table, table_of
from syncd.bulk.upsert import write
from syncd.bulk.versions import row_fingerprint, version_of

__all__ = [
    "Batch",
    "Candidates",
    "Column",
    "Hasher",
    "Judged",
    "Key",
    "KeyReader",
    "Known",
    "Result",
    "Table",
    "TooManyRefused",
    "absent",
    "apply",
    "documents",
    "is_whole",
    "key_reader",
    "key_text",
    "known",
    "plan",
    "presence_reader",
    "quarantine",
    "remember",
    "remove",
    "row_fingerprint",
    "set_field",
    "stand_in",
    "table_of",
    "unmark",
    "version_of",
    "write",
]
