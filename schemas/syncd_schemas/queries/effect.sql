-- name: order
-- Let transactions that enqueue effects of one ordering key come one after the other, until their COMMIT: so
-- a higher sequence is never seen before a lower one. The keys share 256 locks, for a server has not many.
SELECT pg_advisory_xact_lock(%(lock)s, s.bucket)
FROM (SELECT DISTINCT hashtext(k) & 255 AS bucket FROM unnest(%(ordering_keys)s::text[]) AS k
      WHERE k IS NOT NULL ORDER BY 1) AS s;

-- name: enqueue
-- Enqueue effects. One that is open takes the payload of the higher version, one that is dead or discarded
-- re-opens if the payload differs, one that was delivered stays so. What is the same is not even locked. An age
-- counts from the end of the delay.
-- Answers with how many were written by kind, and with the keys whose delivered payload differs.
WITH moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
), given AS MATERIALIZED (
    SELECT s.instance, s.account, s.kind, s.key, coalesce(s.payload, 'null') AS payload, s.ordering_key,
           s.delay_seconds, s.source, s.row_version, nextval('syncd.effect_sequence') AS sequence
    FROM (
        SELECT * FROM ROWS FROM (json_to_recordset(%(postings)s::json)
             AS (instance text, account text, kind text, key text, payload jsonb, ordering_key text,
                 delay_seconds float8, source text, row_version bigint))
             WITH ORDINALITY AS u (instance, account, kind, key, payload, ordering_key, delay_seconds, source,
                                   row_version, place)
        ORDER BY u.place
    ) AS s
), seen AS MATERIALIZED (
    SELECT g.*, e.state, coalesce(e.payload <> g.payload AND coalesce(g.row_version >= e.row_version, true), false) AS differs
    FROM given g
    LEFT JOIN LATERAL (
        SELECT * FROM syncd.effect AS e
        WHERE e.instance = g.instance AND e.account = g.account AND e.kind = g.kind AND e.key = g.key
        OFFSET 0
    ) AS e ON true
), written AS (
    INSERT INTO syncd.effect AS e (instance, account, kind, key, payload, source, row_version, ordering_key,
                                   sequence, due_at, enqueued_at)
    SELECT s.instance, s.account, s.kind, s.key, s.payload, s.source, s.row_version, s.ordering_key, s.sequence,
           m.now + make_interval(secs => s.delay_seconds), m.now + make_interval(secs => s.delay_seconds)
    FROM seen s, moment m
    WHERE s.state IS NULL OR (s.differs AND s.state <> 'delivered')
    ORDER BY s.instance, s.account, s.kind, s.key
    ON CONFLICT (instance, account, kind, key) DO UPDATE
    SET payload = excluded.payload, source = excluded.source, row_version = excluded.row_version,
        ordering_key = excluded.ordering_key,
        sequence = CASE WHEN e.state = 'discarded' THEN excluded.sequence ELSE e.sequence END,
        state = CASE WHEN e.ended_at IS NULL THEN e.state ELSE 'pending' END,
        attempts = CASE WHEN e.ended_at IS NULL THEN e.attempts ELSE 0 END,
        due_at = CASE WHEN e.ended_at IS NULL THEN e.due_at ELSE excluded.due_at END,
        enqueued_at = CASE WHEN e.ended_at IS NULL THEN e.enqueued_at ELSE excluded.enqueued_at END,
        ended_at = NULL
    WHERE e.state <> 'delivered' AND e.payload <> excluded.payload
      AND coalesce(excluded.row_version >= e.row_version, true)
    RETURNING e.kind
)
SELECT kind, count(*)::int AS enqueued, NULL AS conflict FROM written GROUP BY kind
UNION ALL
SELECT kind, 0, key FROM seen WHERE differs AND state IN ('delivered', 'delivering');

-- name: read_in_order
-- For the rest of the transaction: see lease.read_in_order.
SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true);

-- name: heads
-- Since when each of these accounts has effects of a kind that are due, but for those that are parked. What has an
-- order may have to wait for another one even so.
WITH moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
)
SELECT a.account, least(f.due_at, b.due_at) AS due_at
FROM unnest(%(accounts)s::text[]) AS a (account)
LEFT JOIN LATERAL (
    SELECT e.due_at FROM syncd.effect e
    WHERE e.kind = %(kind)s AND e.instance = %(instance)s AND e.account = a.account
      AND e.state IN ('pending', 'delivering')
      AND (e.ordering_key IS NOT NULL)::int = 0 AND e.due_at <= (SELECT now FROM moment)
    ORDER BY e.due_at, e.id LIMIT 1) AS f ON true
LEFT JOIN LATERAL (
    SELECT e.due_at FROM syncd.effect e
    WHERE e.kind = %(kind)s AND e.instance = %(instance)s AND e.account = a.account
      AND e.state IN ('pending', 'delivering')
      AND (e.ordering_key IS NOT NULL)::int = 1 AND e.due_at <= (SELECT now FROM moment)
    ORDER BY e.due_at, e.id LIMIT 1) AS b ON true
WHERE least(f.due_at, b.due_at) IS NOT NULL
  AND NOT EXISTS (SELECT FROM syncd.account p
                  WHERE p.instance = %(instance)s AND p.name = a.account AND p.state <> 'ready');

-- name: due
-- Lock effects of one kind and one account that may be claimed, of those that have no order: the most overdue first.
-- One whose claim has run out is among them: what became of it is unknown. Nothing of an account that is parked.
WITH moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
)
SELECT e.id, e.state = 'delivering' AS unknown
FROM syncd.effect e
WHERE e.kind = %(kind)s AND e.instance = %(instance)s AND e.account = %(account)s
  AND e.state IN ('pending', 'delivering')
  AND (e.ordering_key IS NOT NULL)::int = 0 AND e.due_at <= (SELECT now FROM moment)
  AND NOT EXISTS (SELECT FROM syncd.account a
                  WHERE a.instance = %(instance)s AND a.name = %(account)s AND a.state <> 'ready')
ORDER BY e.due_at, e.id
LIMIT %(most)s
FOR UPDATE OF e SKIP LOCKED;

-- name: due_in_order
-- The same where some may have an order: of an ordering key only the first that is not done. However many wait
-- behind one that is dead or under way, they are not all read: of what has an order the first 100 that are due are
-- looked at, and where each of them has another before it, the first of each ordering key.
WITH RECURSIVE moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
), near AS MATERIALIZED (
    SELECT e.id, e.due_at, e.ordering_key, e.sequence
    FROM syncd.effect e
    WHERE e.kind = %(kind)s AND e.instance = %(instance)s AND e.account = %(account)s
      AND e.state IN ('pending', 'delivering')
      AND (e.ordering_key IS NOT NULL)::int = 1 AND e.due_at <= (SELECT now FROM moment)
    ORDER BY e.due_at, e.id
    LIMIT 100
), heads AS MATERIALIZED (
    SELECT n.id
    FROM near n
    WHERE NOT %(ordered)s OR NOT EXISTS (
          SELECT FROM syncd.effect b
          WHERE b.instance = %(instance)s AND b.account = %(account)s AND b.kind = %(kind)s
            AND b.ordering_key = n.ordering_key AND b.sequence < n.sequence
            AND b.state IN ('pending', 'delivering', 'dead') AND NOT (%(skip_dead)s AND b.state = 'dead'))
), far AS (
    (SELECT e.id, e.ordering_key, e.state
     FROM syncd.effect e
     WHERE e.instance = %(instance)s AND e.account = %(account)s AND e.kind = %(kind)s
       AND e.ordering_key IS NOT NULL
       AND e.state IN ('pending', 'delivering', 'dead') AND NOT (%(skip_dead)s AND e.state = 'dead')
       AND (SELECT count(*) FROM near) = 100 AND NOT EXISTS (SELECT FROM heads)
     ORDER BY e.ordering_key, e.sequence
     LIMIT 1)
    UNION ALL
    SELECT h.*
    FROM far f
    CROSS JOIN LATERAL (
        SELECT e.id, e.ordering_key, e.state
        FROM syncd.effect e
        WHERE e.instance = %(instance)s AND e.account = %(account)s AND e.kind = %(kind)s
          AND e.ordering_key > f.ordering_key
          AND e.state IN ('pending', 'delivering', 'dead') AND NOT (%(skip_dead)s AND e.state = 'dead')
        ORDER BY e.ordering_key, e.sequence
        LIMIT 1) AS h
), free AS (
    SELECT e.id, e.due_at, e.state = 'delivering' AS unknown
    FROM syncd.effect e
    WHERE e.kind = %(kind)s AND e.instance = %(instance)s AND e.account = %(account)s
      AND e.state IN ('pending', 'delivering')
      AND (e.ordering_key IS NOT NULL)::int = 0 AND e.due_at <= (SELECT now FROM moment)
    ORDER BY e.due_at, e.id
    LIMIT %(most)s
    FOR UPDATE OF e SKIP LOCKED
), bound AS (
    SELECT e.id, e.due_at, e.state = 'delivering' AS unknown
    FROM syncd.effect e
    WHERE e.id = ANY (ARRAY(SELECT id FROM heads UNION ALL SELECT id FROM far))
      AND e.state IN ('pending', 'delivering') AND e.due_at <= (SELECT now FROM moment)
    ORDER BY e.due_at, e.id
    LIMIT %(most)s
    FOR UPDATE OF e SKIP LOCKED
)
SELECT c.id, c.unknown FROM (SELECT * FROM free UNION ALL SELECT * FROM bound) AS c
WHERE NOT EXISTS (SELECT FROM syncd.account a
                  WHERE a.instance = %(instance)s AND a.name = %(account)s AND a.state <> 'ready')
ORDER BY c.due_at, c.id
LIMIT %(most)s;

-- name: claim
-- Claim effects that were locked for it.
WITH moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
), claimed AS (
    UPDATE syncd.effect e
    SET state = 'delivering', attempts = e.attempts + 1, claim_epoch = e.claim_epoch + 1,
        claim_token = %(token)s, claim_owner = %(owner)s,
        due_at = moment.now + make_interval(secs => %(claim_seconds)s)
    FROM moment, unnest(%(ids)s::bigint[], %(unknown)s::boolean[]) AS due (id, unknown)
    WHERE e.id = due.id
    RETURNING e.id, e.account, e.key, e.payload, e.attempts, e.claim_epoch AS epoch, e.sequence, e.last_error,
              due.unknown, e.payload::text AS sent,
              extract(epoch FROM moment.now - e.enqueued_at)::float8 AS age_seconds
)
SELECT * FROM claimed ORDER BY sequence;

-- name: renew
-- Lengthen a claim; what does not come back is another's.
UPDATE syncd.effect
SET due_at = syncd.clock(%(now)s) + make_interval(secs => %(claim_seconds)s)
WHERE id = ANY (%(ids)s::bigint[]) AND claim_token = %(token)s
RETURNING id;

-- name: record
-- Record what became of effects: a success in any case, anything else only under the claim. What was delivered has
-- the payload that was sent: its row may have asked for another meanwhile.
UPDATE syncd.effect e
SET state = s.state, last_error = coalesce(s.error, e.last_error), response = s.response::jsonb,
    attempts = greatest(e.attempts - s.unspent, 0), claim_token = NULL, claim_owner = NULL,
    due_at = CASE WHEN s.state = 'pending' THEN syncd.clock(%(now)s) + make_interval(secs => s.wait_seconds) END,
    ended_at = CASE WHEN s.state <> 'pending' THEN syncd.clock(%(now)s) END,
    payload = coalesce(s.sent::jsonb, e.payload)
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[], %(states)s::text[], %(errors)s::text[], %(responses)s::text[],
            %(waits)s::float8[], %(unspent)s::int[], %(sent)s::text[])
     AS s (id, epoch, state, error, response, wait_seconds, unspent, sent)
WHERE e.id = s.id
  AND CASE WHEN s.state = 'delivered' THEN e.state <> 'delivered'
           ELSE e.claim_token = %(token)s AND e.claim_epoch = s.epoch END
RETURNING e.id;

-- name: flooded
-- Of these kinds those of which more than so many effects are open.
SELECT k.kind
FROM unnest(%(kinds)s::text[]) AS k (kind)
WHERE (SELECT count(*) FROM (SELECT FROM syncd.effect e
                             WHERE e.kind = k.kind AND e.state IN ('pending', 'delivering')
                             LIMIT %(most)s + 1) AS open) > %(most)s
ORDER BY k.kind;

-- name: produce
-- Note which kinds of effects the partitions of a feed may produce.
UPDATE syncd.partition p SET effects = s.effects
FROM (SELECT u.feed, array_remove(string_to_array(u.kinds, ','), '') AS effects
      FROM unnest(%(feeds)s::text[], %(kinds)s::text[]) AS u (feed, kinds)) AS s
WHERE p.instance = %(instance)s AND p.feed = s.feed AND p.effects <> s.effects;

-- name: stranded
-- Open effects for accounts that the instance which is to deliver them does not have.
SELECT kind, account, count(*)::int AS effects
FROM syncd.effect
WHERE kind = ANY (%(kinds)s::text[]) AND instance = %(instance)s AND state IN ('pending', 'delivering')
  AND account <> ALL (%(accounts)s::text[])
GROUP BY kind, account ORDER BY kind, account;

-- name: forget
-- Forget what was delivered or discarded long ago, some at a time.
DELETE FROM syncd.effect
WHERE id IN (SELECT id FROM syncd.effect
             WHERE state IN ('delivered', 'discarded')
               AND ended_at < syncd.clock(%(now)s) - make_interval(secs => %(remember_seconds)s)
             ORDER BY ended_at LIMIT %(most)s FOR UPDATE SKIP LOCKED);

-- name: listed
-- Effects as they stand, the newest first; `blocked_by`: the one of the same ordering key that is before it;
-- `account_is`: what keeps the account of a pending one from delivering it. It may stand in the configuration, whose
-- implied accounts give way to those of the table.
WITH standing AS (
    SELECT s.instance, s.name
    FROM unnest(%(instances)s::text[], %(names)s::text[], %(implied)s::boolean[]) AS s (instance, name, implied)
    WHERE NOT s.implied OR NOT EXISTS (SELECT FROM syncd.account t WHERE t.instance = s.instance AND t.origin = 'table')
)
SELECT e.id, e.instance, e.account, e.kind, e.key, e.state, e.attempts, e.ordering_key, e.source, e.row_version,
       e.due_at, e.enqueued_at, e.ended_at, e.last_error, e.payload, e.response, b.id AS blocked_by,
       CASE WHEN e.state <> 'pending' THEN NULL
            WHEN a.state = 'parked' THEN 'parked'
            WHEN s.name IS NOT NULL OR a.origin = 'table' AND a.enabled THEN NULL
            WHEN a.origin = 'table' THEN 'disabled'
            ELSE 'unknown' END AS account_is,
       e.state = 'delivering' AND e.due_at <= syncd.clock(%(now)s) AS unknown, count(*) OVER () AS matching
FROM syncd.effect e
LEFT JOIN syncd.account a ON a.instance = e.instance AND a.name = e.account
LEFT JOIN standing s ON s.instance = e.instance AND s.name = e.account
LEFT JOIN LATERAL (
    SELECT b.id FROM syncd.effect b
    WHERE e.state = 'pending' AND b.instance = e.instance AND b.account = e.account AND b.kind = e.kind
      AND b.ordering_key = e.ordering_key AND b.sequence < e.sequence AND b.state = 'dead'
    ORDER BY b.sequence LIMIT 1
) AS b ON true
WHERE (%(ids)s::bigint[] IS NULL OR e.id = ANY (%(ids)s::bigint[]))
  AND e.instance LIKE %(instance)s
  AND e.account LIKE %(account)s
  AND e.kind LIKE %(kind)s
  AND e.key LIKE %(key)s
  AND (%(states)s::text[] IS NULL OR e.state = ANY (%(states)s::text[]))
ORDER BY e.id DESC
LIMIT %(most)s;

-- name: retry
-- Let effects that ended undelivered be tried again, as if they had just been enqueued.
UPDATE syncd.effect e
SET state = 'pending', attempts = 0, due_at = syncd.clock(%(now)s), enqueued_at = syncd.clock(%(now)s), ended_at = NULL
WHERE e.state IN ('dead', 'discarded')
  AND (%(ids)s::bigint[] IS NULL OR e.id = ANY (%(ids)s::bigint[]))
  AND e.instance LIKE %(instance)s
  AND e.account LIKE %(account)s
  AND e.kind LIKE %(kind)s
  AND e.key LIKE %(key)s
  AND (%(states)s::text[] IS NULL OR e.state = ANY (%(states)s::text[]));

-- name: discard
-- Deliver these never; one that a daemon is delivering just now is left alone.
UPDATE syncd.effect e
SET state = 'discarded', due_at = NULL, claim_token = NULL, claim_owner = NULL, ended_at = syncd.clock(%(now)s)
WHERE (e.state IN ('pending', 'dead') OR (e.state = 'delivering' AND e.due_at <= syncd.clock(%(now)s)))
  AND (%(ids)s::bigint[] IS NULL OR e.id = ANY (%(ids)s::bigint[]))
  AND e.instance LIKE %(instance)s
  AND e.account LIKE %(account)s
  AND e.kind LIKE %(kind)s
  AND e.key LIKE %(key)s
  AND (%(states)s::text[] IS NULL OR e.state = ANY (%(states)s::text[]));

-- name: backlog
-- How many effects of these kinds are open at each instance, how many of those may be delivered within so many
-- seconds, and how many are dead.
SELECT k.instance, k.kind, o.open, o.soon, o.oldest_seconds, d.dead
FROM unnest(%(instances)s::text[], %(kinds)s::text[]) AS k (instance, kind)
CROSS JOIN LATERAL (
    SELECT count(*)::int AS open,
           count(*) FILTER (WHERE e.state = 'delivering'
                            OR e.due_at <= syncd.clock(%(now)s) + make_interval(secs => %(within)s))::int AS soon,
           coalesce(extract(epoch FROM max(greatest(syncd.clock(%(now)s) - e.enqueued_at, '0'))), 0)::float8
               AS oldest_seconds
    FROM syncd.effect e
    WHERE e.kind = k.kind AND e.instance = k.instance AND e.state IN ('pending', 'delivering')
) AS o
CROSS JOIN LATERAL (
    SELECT count(*)::int AS dead FROM syncd.effect e
    WHERE e.kind = k.kind AND e.instance = k.instance AND e.state = 'dead'
) AS d
ORDER BY k.instance, k.kind;

-- name: stats
-- How many effects of each kind stand how, and how old the oldest open one is.
SELECT instance, kind,
       count(*) FILTER (WHERE state = 'pending') AS pending,
       count(*) FILTER (WHERE state = 'delivering') AS delivering,
       count(*) FILTER (WHERE state = 'delivered') AS delivered,
       count(*) FILTER (WHERE state = 'dead') AS dead,
       count(*) FILTER (WHERE state = 'discarded') AS discarded,
       extract(epoch FROM max(greatest(syncd.clock(%(now)s) - enqueued_at, '0')) FILTER (WHERE due_at IS NOT NULL))::float8
           AS oldest_seconds
FROM syncd.effect GROUP BY instance, kind ORDER BY instance, kind;
