-- name: matching
-- Partitions whose names fit, as they stand.
SELECT p.id, p.instance, p.account, p.feed, p.slice, p.slice_settings, p.priority, p.state, p.parked_reason,
       a.state AS account_state, a.parked_reason AS account_reason, p.due_at, p.epoch, p.watermark,
       p.row_fingerprints, p.failures, p.failing_since, p.failed_passes, p.last_error, p.lease_until,
       coalesce(p.lease_until > syncd.clock(%(now)s), false) AS leased, p.owner, d.host, d.pid,
       s.number AS pass_number, s.mode AS pass_mode, s.since AS pass_since, s.until AS pass_until,
       s.started_at AS pass_started_at, s.pages AS pass_pages, s.records AS pass_records,
       syncd.clock(%(now)s) AS clock
FROM syncd.partition p
JOIN syncd.account a ON a.instance = p.instance AND a.name = p.account
LEFT JOIN syncd.daemon d ON d.id = p.owner
LEFT JOIN syncd.pass s ON s.partition_id = p.id AND s.state = 'open'
WHERE p.instance LIKE %(instance)s AND p.account LIKE %(account)s
  AND p.feed LIKE %(feed)s AND p.slice LIKE %(slice)s
ORDER BY p.instance, p.account, p.feed, p.slice
LIMIT %(most)s;

-- name: cursors_by_state
-- How many cursors a partition has, of its open pass and of those that ended.
SELECT s.state = 'open' AS of_open_pass, f.kind, f.state, count(*) AS cursors
FROM syncd.pass s JOIN syncd.frontier f ON f.pass_id = s.id
WHERE s.partition_id = %(partition)s
GROUP BY 1, 2, 3
ORDER BY 1 DESC, 2, 3;

-- name: last_run
-- The newest run of a partition.
SELECT r.id, r.job, r.status, r.message, r.error_class, r.epoch, r.started_at, r.finished_at, r.pages,
       r.records
FROM syncd.run r WHERE r.partition_id = %(partition)s
ORDER BY r.epoch DESC LIMIT 1;

-- name: lock
-- Lock partitions whose names fit: waits for every commit under a lease on them, and holds claims off.
SELECT p.id, p.instance, p.account, p.feed, p.slice, p.row_fingerprints, p.owner, d.host, d.pid,
       coalesce(p.lease_until > syncd.clock(%(now)s), false) AS leased,
       extract(epoch FROM p.lease_until - syncd.clock(%(now)s))::float8 AS lease_seconds,
       syncd.clock(%(now)s) AS clock
FROM syncd.partition p LEFT JOIN syncd.daemon d ON d.id = p.owner
WHERE p.instance LIKE %(instance)s AND p.account LIKE %(account)s
  AND p.feed LIKE %(feed)s AND p.slice LIKE %(slice)s
ORDER BY p.id
FOR UPDATE OF p;

-- name: fence_off
-- Raise epochs, so that nothing can be written under a lease that was taken before: whoever still believes
-- in it finds out. Runs that were going on under it are lost.
WITH fenced AS (
    UPDATE syncd.partition
    SET epoch = epoch + 1, token = NULL, owner = NULL, lease_until = NULL,
        claim_at = due_at - make_interval(secs => priority)
    WHERE id = ANY (%(ids)s::bigint[])
    RETURNING id
)
UPDATE syncd.run r
SET status = 'lost', finished_at = syncd.clock(%(now)s), message = %(message)s
FROM fenced WHERE r.partition_id = fenced.id AND r.status = 'running';

-- name: supersede_open
-- Set the open passes of partitions aside.
UPDATE syncd.pass SET state = 'superseded', ended_at = syncd.clock(%(now)s)
WHERE partition_id = ANY (%(ids)s::bigint[]) AND state = 'open';

-- name: set_watermark
-- Let the next incremental pass start from another moment.
UPDATE syncd.partition SET watermark = %(watermark)s WHERE id = ANY (%(ids)s::bigint[]);

-- name: clear
-- Forget how far partitions are.
UPDATE syncd.partition SET watermark = NULL, row_fingerprints = '{}' WHERE id = ANY (%(ids)s::bigint[]);

-- name: forget_validators
-- Forget what pages are known by: they are fetched whole again.
DELETE FROM syncd.validator WHERE partition_id = ANY (%(ids)s::bigint[]);
