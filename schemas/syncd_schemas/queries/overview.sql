-- name: jobs
-- How jobs that daemons keep stand: what is next, what runs, how the last round ended.
SELECT j.name, j.state, j.asked, j.schedule, j.next_at, j.rounds,
       r.number AS running, r.started_at AS running_since, r.partitions AS running_partitions,
       (SELECT count(*)::int FROM syncd.turn t WHERE t.round_id = r.id AND t.verdict IS NULL) AS owed,
       l.number AS last_number, l.status AS last_status, l.message AS last_message,
       l.started_at AS last_started_at, l.finished_at AS last_finished_at
FROM syncd.job j
LEFT JOIN syncd.round r ON r.job = j.name AND r.status = 'running' AND r.owner IS NULL
LEFT JOIN LATERAL (
    SELECT * FROM syncd.round o WHERE o.job = j.name AND o.status <> 'running' ORDER BY o.id DESC LIMIT 1
) AS l ON true
ORDER BY j.name;

-- name: feeds
-- How the partitions of each instance's feeds stand, with what ran last.
SELECT g.*, r.job AS last_job, r.status AS last_status, r.started_at AS last_started_at,
       r.finished_at AS last_finished_at, r.message AS last_message
FROM (
    SELECT p.instance, p.feed, count(*) AS partitions,
           count(*) FILTER (WHERE p.lease_until > c.now) AS leased,
           count(*) FILTER (WHERE p.state = 'parked' OR a.state = 'parked') AS parked,
           count(*) FILTER (WHERE f.free) AS ready,
           count(*) FILTER (WHERE f.free AND p.due_at <= c.now) AS due,
           count(*) FILTER (WHERE p.failures > 0) AS failing,
           extract(epoch FROM c.now - min(p.due_at) FILTER (WHERE f.free AND p.due_at <= c.now))::float8
               AS late_seconds,
           extract(epoch FROM min(p.due_at) FILTER (WHERE f.free AND p.due_at > c.now) - c.now)::float8
               AS next_due_seconds
    FROM syncd.partition p
    JOIN syncd.account a ON a.instance = p.instance AND a.name = p.account
    CROSS JOIN (SELECT syncd.clock(%(now)s) AS now) AS c
    CROSS JOIN LATERAL (
        -- Of an account that is disabled, or was removed, nothing is due; unless the configuration has it, too.
        SELECT p.state = 'ready' AND a.state = 'ready' AND coalesce(p.lease_until <= c.now, true)
               AND (a.enabled OR p.job IS NOT NULL) AS free
    ) AS f
    GROUP BY p.instance, p.feed, c.now
) AS g
LEFT JOIN LATERAL (
    SELECT run.job, run.status, run.started_at, run.finished_at, run.message
    FROM syncd.run run JOIN syncd.partition mine ON mine.id = run.partition_id
    WHERE mine.instance = g.instance AND mine.feed = g.feed
    ORDER BY run.started_at DESC, run.id DESC LIMIT 1
) AS r ON true
ORDER BY g.instance, g.feed;

-- name: passes
-- Open passes, the oldest first, and who walks them.
SELECT p.instance, p.account, p.feed, p.slice, s.number, s.mode, s.started_at, s.pages, s.records,
       s.quarantined, coalesce(p.lease_until > syncd.clock(%(now)s), false) AS leased, d.host, d.pid,
       count(*) OVER () AS matching
FROM syncd.pass s
JOIN syncd.partition p ON p.id = s.partition_id
LEFT JOIN syncd.daemon d ON d.id = p.owner
WHERE s.state = 'open'
ORDER BY s.started_at, s.id
LIMIT %(most)s;

-- name: parked_accounts
-- Accounts that wait for an operator.
SELECT instance, name AS account, parked_reason AS reason, parked_at, count(*) OVER () AS matching
FROM syncd.account a
WHERE state = 'parked' AND (enabled OR EXISTS (
    SELECT FROM syncd.partition p WHERE p.instance = a.instance AND p.account = a.name AND p.job IS NOT NULL))
ORDER BY parked_at, instance, name
LIMIT %(most)s;

-- name: parked_partitions
-- Partitions that wait for an operator.
SELECT instance, account, feed, slice, parked_reason AS reason, count(*) OVER () AS matching
FROM syncd.partition WHERE state = 'parked'
ORDER BY instance, account, feed, slice
LIMIT %(most)s;

-- name: failing
-- Partitions that fail, the longest first.
SELECT p.instance, p.account, p.feed, p.slice, p.failures, p.failing_since, p.last_error, count(*) OVER () AS matching
FROM syncd.partition p JOIN syncd.account a ON a.instance = p.instance AND a.name = p.account
WHERE p.failures > 0 AND p.state = 'ready' AND (a.enabled OR p.job IS NOT NULL)
ORDER BY p.failing_since, p.id
LIMIT %(most)s;

-- name: quarantined
-- How many records were set aside, and what they come with.
SELECT instance, stream, reason, count(*) AS records, max(last_seen_at) AS last_seen_at
FROM syncd.quarantine GROUP BY instance, stream, reason ORDER BY instance, stream, reason;

-- name: effects
-- How many effects are not delivered, and what may produce more of them.
SELECT e.instance, e.kind, count(*) FILTER (WHERE e.state <> 'dead') AS open,
       count(*) FILTER (WHERE e.state <> 'dead') > %(effects_max)s AS flooded,
       count(*) FILTER (WHERE e.state = 'dead') AS dead,
       extract(epoch FROM max(greatest(syncd.clock(%(now)s) - e.enqueued_at, '0')) FILTER (WHERE e.state <> 'dead'))::float8
           AS oldest_seconds,
       ARRAY(SELECT DISTINCT p.instance || '.' || p.feed FROM syncd.partition p
             WHERE e.kind = ANY (p.effects) ORDER BY 1) AS producers
FROM syncd.effect e WHERE e.state IN ('pending', 'delivering', 'dead')
GROUP BY e.instance, e.kind ORDER BY e.instance, e.kind;

-- name: stranded
-- Open effects that no account delivers; `account_is`: nobody delivers them by this configuration (undelivered), or its
-- connector does, and has no such account (unknown), or one that is disabled. Implied accounts give way, as in `listed`.
WITH standing AS (
    SELECT s.instance, s.name
    FROM unnest(%(instances)s::text[], %(names)s::text[], %(implied)s::boolean[]) AS s (instance, name, implied)
    WHERE NOT s.implied OR NOT EXISTS (SELECT FROM syncd.account t WHERE t.instance = s.instance AND t.origin = 'table')
), open AS (
    SELECT instance, account, kind, count(*) AS effects
    FROM syncd.effect WHERE state IN ('pending', 'delivering') GROUP BY instance, account, kind
)
SELECT e.*, count(*) OVER () AS matching,
       CASE WHEN l.kind IS NULL THEN 'undelivered' WHEN a.origin = 'table' THEN 'disabled' ELSE 'unknown' END AS account_is
FROM open e
LEFT JOIN unnest(%(deliverers)s::text[], %(kinds)s::text[]) AS l (instance, kind)
    ON l.instance = e.instance AND l.kind = e.kind
LEFT JOIN syncd.account a ON a.instance = e.instance AND a.name = e.account
LEFT JOIN standing s ON s.instance = e.instance AND s.name = e.account
WHERE l.kind IS NULL OR s.name IS NULL AND (a.origin IS DISTINCT FROM 'table' OR NOT a.enabled)
ORDER BY e.instance, e.account, e.kind
LIMIT %(most)s;

-- name: debt
-- How many items could not be had.
SELECT p.instance, p.feed, count(*) AS cursors, min(f.failing_since) AS failing_since
FROM syncd.frontier f
JOIN syncd.pass s ON s.id = f.pass_id
JOIN syncd.partition p ON p.id = s.partition_id
WHERE f.state = 'failed'
GROUP BY p.instance, p.feed ORDER BY p.instance, p.feed;

-- name: processes
-- Who works here, and how long it has been silent.
SELECT d.host, d.pid, d.version, d.started_at,
       extract(epoch FROM syncd.clock(%(now)s) - d.heartbeat_at)::float8 AS silent_seconds,
       d.heartbeat_at > syncd.clock(%(now)s) - make_interval(secs => %(stale_seconds)s) AS alive,
       (SELECT count(*) FROM syncd.partition p
        WHERE p.owner = d.id AND p.lease_until > syncd.clock(%(now)s)) AS leased
FROM syncd.daemon d ORDER BY d.host, d.pid, d.started_at;

-- name: sizes
-- What the data tables of each instance take, indexes and all, and the control tables.
SELECT n.nspname AS schema, count(*) AS tables, sum(pg_total_relation_size(c.oid))::bigint AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm')
  AND (n.nspname = 'syncd' OR n.nspname IN (SELECT name FROM syncd.instance))
GROUP BY n.nspname ORDER BY n.nspname;

-- name: clock
-- The moment, by the clock of record.
SELECT syncd.clock(%(now)s) AS now;
