-- name: read_in_order
-- For the rest of the transaction, have indexes read in their order where that is possible: what is due is
-- the front of an index, but with no or old statistics the planner reads and sorts all of it. What is
-- off counts as a high cost before PostgreSQL 18: without jit off too, each claim would be compiled first,
-- for half a second.
SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true);

-- name: claim
-- Take the lease on up to %(free)s partitions, in the order of claim_at. A partition whose row is locked
-- (a commit of its last owner may still hang) is passed over. A run row is opened with each lease, and one
-- that a lost owner left running is marked so. Until the lease runs out for the first time the partition
-- stands behind all that is due: a claim reads what it takes, not what others have taken.
WITH moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
), due AS (
    SELECT p.id, p.claim_at
    FROM syncd.partition p
    WHERE p.state = 'ready'
      -- No join: that may begin at the account, and read all of its partitions.
      AND (SELECT a.state FROM syncd.account a WHERE a.instance = p.instance AND a.name = p.account) = 'ready'
      AND (%(ids)s::bigint[] IS NULL OR p.id = ANY (%(ids)s::bigint[]))
      AND (%(wanted_by)s::text IS NULL OR p.job = %(wanted_by)s)
      AND NOT p.account = ANY (%(busy)s::text[])
      AND NOT p.effects && %(flooded)s::text[]
      AND (%(early)s OR (p.claim_at <= (SELECT now FROM moment) 
                         AND p.due_at <= (SELECT now FROM moment) - make_interval(secs => %(courtesy_seconds)s)))
      AND (p.lease_until IS NULL OR p.lease_until <= (SELECT now FROM moment))
    ORDER BY p.claim_at, p.id
    LIMIT %(free)s
    FOR UPDATE OF p SKIP LOCKED
), claimed AS (
    UPDATE syncd.partition p
    SET epoch = p.epoch + 1, token = %(token)s, owner = %(owner)s,
        lease_until = moment.now + make_interval(secs => %(lease_seconds)s),
        claim_at = moment.now + make_interval(secs => %(lease_seconds)s)
    FROM due, moment
    WHERE p.id = due.id
    RETURNING p.*, due.claim_at AS stood_at, moment.now AS clock
), lost AS (
    UPDATE syncd.run r
    SET status = 'lost', finished_at = c.clock, message = 'its lease went to another process'
    FROM claimed c
    WHERE r.partition_id = c.id AND r.epoch = c.epoch - 1 AND r.status = 'running'
), opened AS (
    INSERT INTO syncd.run (job, partition_id, owner, epoch, started_at, round_id)
    SELECT %(job)s, c.id, c.owner, c.epoch, c.clock, coalesce(%(round)s, (
        SELECT t.round_id FROM syncd.turn t JOIN syncd.round r ON r.id = t.round_id
        WHERE t.partition_id = c.id AND t.verdict IS NULL AND r.job = %(job)s))
    FROM claimed c
    RETURNING id, partition_id
)
SELECT c.*, o.id AS run_id
FROM claimed c JOIN opened o ON o.partition_id = c.id
ORDER BY c.stood_at, c.id;

-- name: renew
-- Lengthen leases. Touches only lease_until, which is in no index: neither waits for a commit's key-share
-- lock nor makes one wait. What does not come back is lost.
UPDATE syncd.partition p
SET lease_until = syncd.clock(%(now)s) + make_interval(secs => %(lease_seconds)s)
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[], %(tokens)s::uuid[]) AS held (id, epoch, token)
WHERE p.id = held.id AND p.epoch = held.epoch AND p.token = held.token
RETURNING p.id, p.epoch, syncd.clock(%(now)s) AS clock;

-- name: expire
-- Let a lease of ours run out at once. Like a renewal it does not wait for a commit that may still hang.
UPDATE syncd.partition
SET lease_until = syncd.clock(%(now)s), claim_at = syncd.clock(%(now)s)
WHERE id = %(id)s AND epoch = %(epoch)s AND token = %(token)s;

-- name: forgo
-- Let what one claim has leased, if it happened, run out at once.
UPDATE syncd.partition
SET lease_until = syncd.clock(%(now)s), claim_at = syncd.clock(%(now)s)
WHERE token = %(token)s AND lease_until > syncd.clock(%(now)s);

-- name: fence
-- Every commit begins here: is the lease still ours? The lock keeps a new claim (a key update) waiting
-- until this transaction has ended, and lets renewals pass.
SELECT 1 AS ours FROM syncd.partition
WHERE id = %(id)s AND epoch = %(epoch)s AND token = %(token)s
FOR KEY SHARE;

-- name: fence_alone
-- The same for what must stand alone (the end of a pass): waits for every commit under this lease.
SELECT failed_passes FROM syncd.partition
WHERE id = %(id)s AND epoch = %(epoch)s AND token = %(token)s
FOR UPDATE;

-- name: release
-- Give the lease back and write where the partition goes from here: a retry stays its job's, else whoever
-- has waited longest for a turn is next, at once, or nobody is.
UPDATE syncd.partition p
SET token = NULL, owner = NULL, lease_until = NULL,
    job = n.job, due_at = n.due_at, claim_at = n.due_at - make_interval(secs => p.priority),
    failures = %(failures)s,
    failing_since = CASE WHEN %(failures)s = 0 THEN NULL
                         WHEN %(reset)s THEN syncd.clock(%(now)s)
                         ELSE coalesce(p.failing_since, syncd.clock(%(now)s)) END,
    last_error = CASE WHEN %(failures)s = 0 THEN NULL ELSE %(message)s END,
    state = CASE WHEN %(park)s::text IS NULL THEN p.state ELSE 'parked' END,
    parked_reason = coalesce(%(park)s::text, p.parked_reason)
FROM (
    SELECT CASE WHEN %(stays)s THEN q.job ELSE owed.job END AS job,
           syncd.clock(%(now)s) + make_interval(secs =>
               CASE WHEN NOT %(stays)s AND owed.job IS NOT NULL THEN 0 ELSE %(wait_seconds)s END) AS due_at
    FROM syncd.partition q
    LEFT JOIN LATERAL (
        SELECT r.job FROM syncd.turn t JOIN syncd.round r ON r.id = t.round_id
        WHERE t.partition_id = q.id AND t.verdict IS NULL ORDER BY r.id LIMIT 1
    ) owed ON true
    WHERE q.id = %(id)s
) n
WHERE p.id = %(id)s AND p.epoch = %(epoch)s AND p.token = %(token)s;

-- name: finish_run
-- Close a run's row.
UPDATE syncd.run
SET status = %(status)s, message = %(message)s, error_class = %(error_class)s,
    finished_at = syncd.clock(%(now)s),
    requests = %(requests)s, retries = %(retries)s, throttled_seconds = %(throttled_seconds)s
WHERE id = %(run)s AND status = 'running';

-- name: park_account
-- Set an account aside: none of its partitions is claimed until it is resumed, by an operator or a second try.
UPDATE syncd.account
SET state = 'parked', parked_reason = %(reason)s, parked_at = syncd.clock(%(now)s),
    try_again_at = syncd.clock(%(now)s) + make_interval(secs => %(try_again_seconds)s)
WHERE instance = %(instance)s AND name = %(account)s AND state = 'ready';

-- name: standing
-- What keeps partitions from being claimed: who holds them, until when, and what is set aside.
SELECT p.id, p.state, p.parked_reason, a.state AS account_state, a.parked_reason AS account_reason,
       p.due_at, p.lease_until > syncd.clock(%(now)s) AS held, p.owner, d.host, d.pid,
       extract(epoch FROM p.lease_until - syncd.clock(%(now)s))::float8 AS lease_seconds,
       extract(epoch FROM p.due_at - syncd.clock(%(now)s))::float8 AS due_in_seconds
FROM syncd.partition p
JOIN syncd.account a ON a.instance = p.instance AND a.name = p.account
LEFT JOIN syncd.daemon d ON d.id = p.owner
WHERE p.id = ANY (%(ids)s::bigint[])
ORDER BY p.claim_at, p.id;
