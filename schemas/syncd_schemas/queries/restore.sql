-- name: alive
-- Processes that gave a sign of life not long ago, by the server's clock.
SELECT host, pid, version, started_at, heartbeat_at,
       extract(epoch FROM syncd.clock(%(now)s) - heartbeat_at)::float8 AS silent_seconds
FROM syncd.daemon
WHERE heartbeat_at > syncd.clock(%(now)s) - make_interval(secs => %(stale_seconds)s)
ORDER BY host, pid;

-- name: fence_all
-- Raise every epoch and take every lease: what was leased in the time line that is lost is leased no more.
UPDATE syncd.partition
SET epoch = epoch + 1, token = NULL, owner = NULL, lease_until = NULL,
    claim_at = due_at - make_interval(secs => priority);

-- name: lose_runs
-- Runs that were going on when the backup was made: how they ended is not known here.
UPDATE syncd.run
SET status = 'lost', finished_at = syncd.clock(%(now)s), message = %(message)s
WHERE status = 'running';

-- name: forget_processes
-- Forget signs of life.
DELETE FROM syncd.daemon;

-- name: forget_validators
-- Forget what pages are known by, a bounded number at a time.
WITH old AS (SELECT partition_id, cursor_key FROM syncd.validator LIMIT %(most)s)
DELETE FROM syncd.validator v USING old
WHERE v.partition_id = old.partition_id AND v.cursor_key = old.cursor_key;
