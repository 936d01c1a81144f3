-- name: order
-- Let transactions that enqueue effects of one ordering key come one after the other, until their COMMIT: so
-- a higher sequence is never seen before a lower one. The keys share 256 locks, for a server has not many.
SELECT pg_advisory_xact_lock(%(lock)s, s.bucket)
FROM (SELECT DISTINCT hashtext(k) & 255 AS bucket FROM unnest(%(ordering_keys)s::text[]) AS k
      WHERE k IS NOT NULL ORDER BY 1) AS s;

-- name: enqueue
-- Enqueue effects. One that is open takes the payload of the higher version, one that is dead or discarded
-- re-opens if the payload differs, one that was delivered stays so. What is the same is not even locked.
-- Answers with how many were written by kind, and with the keys whose delivered payload differs.
WITH moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
), given AS MATERIALIZED (
    SELECT s.instance, s.account, s.kind, s.key, s.payload::jsonb AS payload, s.ordering_key, s.delay_seconds,
           s.source, s.row_version, nextval('syncd.effect_sequence') AS sequence
    FROM (
        SELECT * FROM unnest(%(instances)s::text[], %(accounts)s::text[], %(kinds)s::text[], %(keys)s::text[],
                             %(payloads)s::text[], %(ordering_keys)s::text[], %(delays)s::float8[],
                             %(sources)s::text[], %(versions)s::bigint[])
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
           m.now + make_interval(secs => s.delay_seconds), m.now
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

-- name: claim
-- Claim effects of one kind and one account, the most overdue first. One whose claim has run out is claimed
-- again: what became of it is unknown. Of an ordering key only the first that is not done.
WITH moment AS MATERIALIZED (
    SELECT syncd.clock(%(now)s) AS now
), first AS MATERIALIZED (
    SELECT e.account
    FROM syncd.effect e
    WHERE e.kind = %(kind)s AND e.instance = %(instance)s AND e.state IN ('pending', 'delivering')
      AND e.due_at <= (SELECT now FROM moment)
      AND e.account = ANY (%(accounts)s::text[])
      AND coalesce((SELECT a.state FROM syncd.account a
                    WHERE a.instance = e.instance AND a.name = e.account), 'ready') = 'ready'
      AND (NOT %(ordered)s OR e.ordering_key IS NULL OR NOT EXISTS (
          SELECT FROM syncd.effect b
          WHERE b.instance = e.instance AND b.account = e.account AND b.kind = e.kind
            AND b.ordering_key = e.ordering_key AND b.sequence < e.sequence
            AND b.state IN ('pending', 'delivering', 'dead') AND NOT (%(skip_dead)s AND b.state = 'dead')))
    ORDER BY e.due_at, e.id
    LIMIT 1
), due AS (
    SELECT e.id
    FROM syncd.effect e
    WHERE e.kind = %(kind)s AND e.instance = %(instance)s AND e.state IN ('pending', 'delivering')
      AND e.due_at <= (SELECT now FROM moment)
      AND e.account = (SELECT account FROM first)
      AND (NOT %(ordered)s OR e.ordering_key IS NULL OR NOT EXISTS (
          SELECT FROM syncd.effect b
          WHERE b.instance = e.instance AND b.account = e.account AND b.kind = e.kind
            AND b.ordering_key = e.ordering_key AND b.sequence < e.sequence
            AND b.state IN ('pending', 'delivering', 'dead') AND NOT (%(skip_dead)s AND b.state = 'dead')))
    ORDER BY e.due_at, e.id
    LIMIT %(most)s
    FOR UPDATE OF e SKIP LOCKED
), claimed AS (
    UPDATE syncd.effect e
    SET state = 'delivering', attempts = e.attempts + 1, claim_epoch = e.claim_epoch + 1,
        claim_token = %(token)s, claim_owner = %(owner)s,
        due_at = moment.now + make_interval(secs => %(claim_seconds)s)
    FROM due, moment
    WHERE e.id = due.id
    RETURNING e.id, e.account, e.key, e.payload, e.attempts, e.claim_epoch AS epoch, e.sequence, e.last_error,
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
-- Record what became of effects: a success in any case, anything else only under the claim.
UPDATE syncd.effect e
SET state = s.state, last_error = coalesce(s.error, e.last_error), response = s.response::jsonb,
    attempts = greatest(e.attempts - s.unspent, 0), claim_token = NULL, claim_owner = NULL,
    due_at = CASE WHEN s.state = 'pending' THEN syncd.clock(%(now)s) + make_interval(secs => s.wait_seconds) END,
    ended_at = CASE WHEN s.state <> 'pending' THEN syncd.clock(%(now)s) END
FROM unnest(%(ids)s::bigint[], %(epochs)s::bigint[], %(states)s::text[], %(errors)s::text[], %(responses)s::text[],
            %(waits)s::float8[], %(unspent)s::int[])
     AS s (id, epoch, state, error, response, wait_seconds, unspent)
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

-- name: forget
-- Forget what was delivered or discarded long ago, some at a time.
DELETE FROM syncd.effect
WHERE id IN (SELECT id FROM syncd.effect
             WHERE state IN ('delivered', 'discarded')
               AND ended_at < syncd.clock(%(now)s) - make_interval(secs => %(remember_seconds)s)
             ORDER BY ended_at LIMIT %(most)s FOR UPDATE SKIP LOCKED);

-- name: listed
-- Effects as they stand, the newest first; `blocked_by`: the one of the same ordering key that is before it.
SELECT e.id, e.instance, e.account, e.kind, e.key, e.state, e.attempts, e.ordering_key, e.source, e.row_version,
       e.due_at, e.enqueued_at, e.ended_at, e.last_error, e.payload, e.response, b.id AS blocked_by,
       e.state = 'delivering' AND e.due_at <= syncd.clock(%(now)s) AS unknown, count(*) OVER () AS matching
FROM syncd.effect e
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

-- name: stats
-- How many effects of each kind stand how, and how old the oldest open one is.
SELECT instance, kind,
       count(*) FILTER (WHERE state = 'pending') AS pending,
       count(*) FILTER (WHERE state = 'delivering') AS delivering,
       count(*) FILTER (WHERE state = 'delivered') AS delivered,
       count(*) FILTER (WHERE state = 'dead') AS dead,
       count(*) FILTER (WHERE state = 'discarded') AS discarded,
       extract(epoch FROM syncd.clock(%(now)s) - min(enqueued_at) FILTER (WHERE due_at IS NOT NULL))::float8
           AS oldest_seconds
FROM syncd.effect GROUP BY instance, kind ORDER BY instance, kind;
