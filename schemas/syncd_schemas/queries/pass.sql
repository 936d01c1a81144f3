-- name: open_pass
-- The partition's open pass, if there is one.
SELECT id, number, mode, since, until, started_at, request_fingerprint, row_fingerprints,
       connector_version, high, ends_at, pages, records
FROM syncd.pass WHERE partition_id = %(partition)s AND state = 'open';

-- name: expected
-- How many records the last pass of a mode had that ended well.
SELECT records FROM syncd.pass
WHERE partition_id = %(partition)s AND mode = %(mode)s AND state IN ('complete', 'partial')
ORDER BY number DESC LIMIT 1;

-- name: set_run_pass
-- Note in the history which pass a run walks.
UPDATE syncd.run SET pass_id = %(pass)s WHERE id = %(run)s;

-- name: supersede
-- Set the open pass aside.
UPDATE syncd.pass SET state = 'superseded', ended_at = syncd.clock(%(now)s)
WHERE partition_id = %(partition)s AND state = 'open';

-- name: begin
-- Begin a pass.
INSERT INTO syncd.pass (partition_id, number, mode, since, until, started_at, request_fingerprint,
                        row_fingerprints, connector_version, until_lowered)
SELECT %(partition)s, coalesce(max(number), 0) + 1, %(mode)s, %(since)s, %(until)s, syncd.clock(%(now)s),
       %(request_fingerprint)s, %(row_fingerprints)s, %(connector_version)s, %(mode)s = 'backfill'
FROM syncd.pass WHERE partition_id = %(partition)s
RETURNING id, number, started_at;

-- name: take_debt
-- Move failed items that are due into the new pass, attempts and all: one row if the pass mentions them too.
WITH debt AS (
    DELETE FROM syncd.frontier f USING syncd.pass p
    WHERE f.pass_id = p.id AND p.partition_id = %(partition)s AND p.id <> %(pass)s
      AND f.state = 'failed' AND f.not_before <= syncd.clock(%(now)s)
    RETURNING f.*
)
INSERT INTO syncd.frontier (pass_id, cursor_key, cursor, kind, depth, ordinal, version, attempts,
                            failing_since, last_error)
SELECT %(pass)s, cursor_key, cursor, kind, depth, ordinal, max(version), max(attempts),
       min(failing_since), max(last_error)
FROM debt
GROUP BY cursor_key, cursor, kind, depth, ordinal
ORDER BY cursor_key
ON CONFLICT (pass_id, cursor_key) DO UPDATE
SET attempts = excluded.attempts, failing_since = excluded.failing_since,
    last_error = excluded.last_error;

-- name: forget
-- Delete closed and abandoned cursors of ended passes, a bounded number at a time; debt stays.
WITH old AS (
    SELECT f.pass_id, f.cursor_key
    FROM syncd.frontier f JOIN syncd.pass p ON p.id = f.pass_id
    WHERE p.partition_id = %(partition)s AND p.state <> 'open' AND f.state <> 'failed'
    LIMIT %(most)s
)
DELETE FROM syncd.frontier f USING old
WHERE f.pass_id = old.pass_id AND f.cursor_key = old.cursor_key;

-- name: count
-- Add a batch to its pass: the last statements of a commit, so that parallel writers wait for each
-- other only here. The first page committed fixes `until`, and may lower it.
UPDATE syncd.pass
SET high = greatest(high, %(high)s), ends_at = coalesce(%(end)s, ends_at),
    until = CASE WHEN until_lowered THEN until ELSE least(until, %(date)s) END,
    until_lowered = true,
    pages = pages + %(pages)s, records = records + %(records)s,
    inserted = inserted + %(inserted)s, updated = updated + %(updated)s,
    unchanged = unchanged + %(unchanged)s, stale = stale + %(stale)s,
    quarantined = quarantined + %(quarantined)s
WHERE id = %(pass)s AND state = 'open';

-- name: count_run
-- Add a batch to its run.
UPDATE syncd.run
SET pages = pages + %(pages)s, records = records + %(records)s,
    inserted = inserted + %(inserted)s, updated = updated + %(updated)s,
    unchanged = unchanged + %(unchanged)s, stale = stale + %(stale)s,
    quarantined = quarantined + %(quarantined)s
WHERE id = %(run)s;

-- name: reopen_empty
-- An empty numbered page below one that held records was not the end: walk it again.
UPDATE syncd.frontier f
SET state = 'open', empty = false
FROM syncd.pass p
WHERE f.pass_id = %(pass)s AND p.id = f.pass_id AND f.state = 'closed' AND f.empty
  AND f.number < p.high;

-- name: remaining
-- What is left of a pass.
SELECT count(*) FILTER (WHERE state = 'open') AS open,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE kind = 'item') AS items
FROM syncd.frontier WHERE pass_id = %(pass)s;

-- name: excused
-- How many of a pass's failed items failed last in an outage.
SELECT count(*) AS items FROM syncd.frontier
WHERE pass_id = %(pass)s AND state = 'failed' AND outage;

-- name: end
-- End a pass whose frontier is empty, or whose chain broke.
UPDATE syncd.pass SET state = %(status)s, ended_at = syncd.clock(%(now)s)
WHERE id = %(pass)s AND state = 'open'
RETURNING mode, until, pages, records, number;

-- name: advance
-- Move the watermark of a partition whose pass ended complete or partial, and remember how a complete full
-- pass made its rows. A backfill moves nothing.
UPDATE syncd.partition
SET watermark = CASE WHEN %(mode)s = 'backfill' THEN watermark ELSE %(until)s END,
    row_fingerprints = CASE WHEN %(mode)s = 'full' AND %(status)s = 'complete'
                            THEN row_fingerprints || %(row_fingerprints)s ELSE row_fingerprints END,
    failed_passes = 0
WHERE id = %(partition)s;

-- name: note_failed_pass
-- Count a failed pass.
UPDATE syncd.partition SET failed_passes = failed_passes + 1 WHERE id = %(partition)s
RETURNING failed_passes;
