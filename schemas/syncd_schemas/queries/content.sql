-- name: known
-- Of these records, those that an awaiting transform was done with, as they then were.
SELECT record_key, content_key, rows
FROM syncd.content
WHERE instance = %(instance)s AND account = %(account)s AND stream = %(stream)s
  AND record_key = ANY(%(keys)s);

-- name: note
-- Note what records were when they were answered for; what came later counts.
INSERT INTO syncd.content AS t (instance, account, stream, record_key, content_key, rows, answered_at)
SELECT %(instance)s, %(account)s, %(stream)s, given.key, given.content, given.rows, given.at
FROM unnest(%(keys)s::bytea[], %(contents)s::bytea[], %(rows)s::integer[], %(ats)s::timestamptz[])
  AS given (key, content, rows, at)
ORDER BY given.key
ON CONFLICT (instance, account, stream, record_key) DO UPDATE
SET content_key = excluded.content_key, rows = excluded.rows, answered_at = excluded.answered_at
WHERE t.answered_at <= excluded.answered_at;

-- name: forget
-- Forget records whose answers do not all stand in the table.
DELETE FROM syncd.content
WHERE instance = %(instance)s AND account = %(account)s AND stream = %(stream)s
  AND record_key = ANY(%(keys)s);

-- name: forget_all
-- Forget all records of a stream of which rows were made: its table was emptied.
DELETE FROM syncd.content
WHERE instance = %(instance)s AND stream = %(stream)s AND rows > 0;
