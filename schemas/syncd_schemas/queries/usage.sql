-- name: note
-- Note how a process keeps to quotas; nothing where it is no longer registered.
INSERT INTO syncd.quota_usage (daemon, key, windows, in_flight, ceiling, adaptive, rate, locked_until, waiting,
                               broken_origins, sent, refused, seen_at)
SELECT d.id, u.key, u.windows, u.in_flight, u.ceiling, u.adaptive, u.rate,
       CASE WHEN u.locked_seconds > 0 THEN syncd.clock(%(now)s) + make_interval(secs => u.locked_seconds) END,
       u.waiting, u.broken_origins, u.sent, u.refused, syncd.clock(%(now)s)
FROM jsonb_to_recordset(%(usages)s::jsonb)
     AS u (key text, windows jsonb, in_flight int, ceiling int, adaptive boolean, rate double precision,
           locked_seconds double precision, waiting int, broken_origins text[], sent bigint, refused bigint)
JOIN syncd.daemon d ON d.id = %(daemon)s
ORDER BY u.key
ON CONFLICT (daemon, key) DO UPDATE
SET windows = excluded.windows, in_flight = excluded.in_flight, ceiling = excluded.ceiling,
    adaptive = excluded.adaptive, rate = excluded.rate, locked_until = excluded.locked_until,
    waiting = excluded.waiting, broken_origins = excluded.broken_origins, sent = excluded.sent,
    refused = excluded.refused, seen_at = excluded.seen_at;

-- name: listed
-- What every process that lives uses of every quota.
SELECT u.key, d.host, d.pid, u.windows, u.in_flight, u.ceiling, u.adaptive, u.rate,
       CASE WHEN u.locked_until > syncd.clock(%(now)s) THEN u.locked_until END AS locked_until,
       u.waiting, u.broken_origins, u.sent, u.refused,
       CASE WHEN u.sent > 0 THEN u.refused::double precision / u.sent ELSE 0 END AS refused_share, u.seen_at,
       d.heartbeat_at < syncd.clock(%(now)s) - make_interval(secs => %(stale_seconds)s) AS stale
FROM syncd.quota_usage u
JOIN syncd.daemon d ON d.id = u.daemon
ORDER BY u.key, d.host, d.pid;
