-- name: register_instance
-- Make an instance known.
INSERT INTO syncd.instance (name, plugin, plugin_version, seen_at)
VALUES (%(name)s, %(plugin)s, %(version)s, syncd.clock(%(now)s))
ON CONFLICT (name) DO UPDATE
SET plugin = excluded.plugin, plugin_version = excluded.plugin_version, seen_at = excluded.seen_at;

-- name: register_accounts
-- Make accounts known; their state is left alone.
INSERT INTO syncd.account (instance, name)
SELECT %(instance)s, name FROM unnest(%(names)s::text[]) AS name ORDER BY name
ON CONFLICT DO NOTHING;

-- name: account_states
-- How an instance's accounts stand.
SELECT name, state, parked_reason FROM syncd.account WHERE instance = %(instance)s ORDER BY name;

-- name: register_partitions
-- Make an account's slices of a feed known; a new one is due at once.
INSERT INTO syncd.partition (instance, account, feed, slice, slice_settings, priority, due_at, claim_at)
SELECT %(instance)s, %(account)s, %(feed)s, s.name, s.settings::jsonb, s.priority, syncd.clock(%(now)s),
       syncd.clock(%(now)s) - make_interval(secs => s.priority)
FROM unnest(%(names)s::text[], %(settings)s::text[], %(priorities)s::int[]) AS s (name, settings, priority)
ORDER BY s.name
ON CONFLICT (instance, account, feed, slice) DO UPDATE
SET slice_settings = excluded.slice_settings, priority = excluded.priority,
    claim_at = partition.due_at - make_interval(secs => excluded.priority)
WHERE (partition.slice_settings, partition.priority)
      IS DISTINCT FROM (excluded.slice_settings, excluded.priority);

-- name: partition_ids
-- The numbers of an account's slices.
SELECT slice, id FROM syncd.partition
WHERE instance = %(instance)s AND account = %(account)s AND feed = %(feed)s AND slice = ANY (%(names)s::text[]);

-- name: beat
-- A sign of life. Answers with how many processes live, ourselves included, and the server's limit.
WITH alive AS (
    INSERT INTO syncd.daemon (id, host, pid, version, started_at, heartbeat_at)
    VALUES (%(id)s, %(host)s, %(pid)s, %(version)s, syncd.clock(%(now)s), syncd.clock(%(now)s))
    ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at
    RETURNING id
)
SELECT (SELECT count(*) FROM syncd.daemon
        WHERE heartbeat_at > syncd.clock(%(now)s) - make_interval(secs => %(stale_seconds)s)
          AND id <> %(id)s) + (SELECT count(*) FROM alive) AS daemons,
       current_setting('max_connections')::int AS max_connections,
       syncd.clock(%(now)s) AS clock;

-- name: leave
-- Say good-bye, and drop what has been gone for a day.
DELETE FROM syncd.daemon
WHERE id = %(id)s OR heartbeat_at < syncd.clock(%(now)s) - interval '1 day';

-- name: recent_runs
-- History, newest first.
SELECT r.id, r.job, p.instance, p.account, p.feed, p.slice, r.status, r.message, r.error_class,
       r.started_at, r.finished_at, r.duration_ms, r.pages, r.records, r.inserted, r.updated, r.unchanged,
       r.stale, r.quarantined, r.requests, r.retries, r.throttled_seconds, s.number AS pass_number, s.mode
FROM syncd.run r
JOIN syncd.partition p ON p.id = r.partition_id
LEFT JOIN syncd.pass s ON s.id = r.pass_id
WHERE (%(job)s::text IS NULL OR r.job = %(job)s)
ORDER BY r.started_at DESC, r.id DESC
LIMIT %(most)s;

-- name: resume_partitions
-- Let parked partitions of an instance be claimed again, at once.
UPDATE syncd.partition
SET state = 'ready', parked_reason = NULL, failures = 0, failing_since = NULL, failed_passes = 0,
    due_at = syncd.clock(%(now)s),
    claim_at = syncd.clock(%(now)s) - make_interval(secs => priority)
WHERE instance = %(instance)s AND state = 'parked'
  AND (%(account)s::text IS NULL OR account = %(account)s);

-- name: resume_accounts
-- Let the partitions of parked accounts be claimed again.
UPDATE syncd.account SET state = 'ready', parked_reason = NULL, parked_at = NULL
WHERE instance = %(instance)s AND state = 'parked'
  AND (%(account)s::text IS NULL OR name = %(account)s);
