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
-- Make partitions known; a new one is due at once.
INSERT INTO syncd.partition (instance, account, feed, slice, slice_settings, covers, priority, due_at, claim_at)
SELECT s.instance, s.account, s.feed, s.slice, s.settings::jsonb, s.covers, s.priority, syncd.clock(%(now)s),
       syncd.clock(%(now)s) - make_interval(secs => s.priority)
FROM unnest(%(instances)s::text[], %(accounts)s::text[], %(feeds)s::text[], %(slices)s::text[],
            %(settings)s::text[], %(covers)s::text[], %(priorities)s::int[])
     AS s (instance, account, feed, slice, settings, covers, priority)
ORDER BY s.instance, s.account, s.feed, s.slice
ON CONFLICT (instance, account, feed, slice) DO UPDATE
SET slice_settings = excluded.slice_settings, covers = excluded.covers, priority = excluded.priority,
    claim_at = partition.due_at - make_interval(secs => excluded.priority)
WHERE (partition.slice_settings, partition.covers, partition.priority)
      IS DISTINCT FROM (excluded.slice_settings, excluded.covers, excluded.priority);

-- name: known_as_they_are
-- The numbers of partitions, in the order asked for; none where one is unknown, or known otherwise. Asked
-- before anything is registered, which locks each row that it meets: daemons would wait for each other.
SELECT p.id
FROM unnest(%(instances)s::text[], %(accounts)s::text[], %(feeds)s::text[], %(slices)s::text[],
            %(settings)s::text[], %(covers)s::text[], %(priorities)s::int[])
     WITH ORDINALITY AS s (instance, account, feed, slice, settings, covers, priority, place)
LEFT JOIN syncd.partition p
  ON p.instance = s.instance AND p.account = s.account AND p.feed = s.feed AND p.slice = s.slice
 AND (p.slice_settings, p.covers, p.priority) IS NOT DISTINCT FROM (s.settings::jsonb, s.covers, s.priority)
ORDER BY s.place;

-- name: forsake_shares
-- Slices of these feeds that are named no more are no shares of them.
UPDATE syncd.partition p SET covers = 'part'
WHERE p.covers = 'share'
  AND (p.instance, p.account, p.feed) IN (
      SELECT * FROM unnest(%(instances)s::text[], %(accounts)s::text[], %(feeds)s::text[]))
  AND (p.instance, p.account, p.feed, p.slice) NOT IN (
      SELECT * FROM unnest(%(instances)s::text[], %(accounts)s::text[], %(feeds)s::text[], %(slices)s::text[]));

-- name: known_partitions
-- The numbers of all slices of an account's feed.
SELECT id FROM syncd.partition
WHERE instance = %(instance)s AND account = %(account)s AND feed = %(feed)s ORDER BY id;

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
       current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0) AS max_connections,
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
