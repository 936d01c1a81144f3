-- name: unknown
-- Which of these keys have no row yet, in order.
SELECT k.key FROM unnest(%(keys)s::text[]) AS k (key)
WHERE NOT EXISTS (SELECT FROM syncd.quota q WHERE q.key = k.key)
ORDER BY k.key;

-- name: known
-- Make keys known to the ledger.
INSERT INTO syncd.quota (key) SELECT key FROM unnest(%(keys)s::text[]) AS key ORDER BY key ON CONFLICT DO NOTHING;

-- name: reserve
-- Answer what a daemon asks of some keys: `limits.ledger.reserve` says why, step by step. All is reckoned from the
-- rows as they are once they are ours, locked in everybody's order. (Not in SET: what is reckoned there of a row that
-- another has meanwhile changed is reckoned of its old version.)
WITH q AS MATERIALIZED (
    SELECT key, locked_until, refusals, askers, due FROM syncd.quota
    WHERE key = ANY (%(keys)s::text[]) ORDER BY key FOR UPDATE
), moment AS MATERIALIZED (
    SELECT q.key, q.locked_until, q.refusals + s.refusals AS refusals, q.askers, q.due, s.lock_seconds, s.is_empty,
           s.leaves, extract(epoch FROM syncd.clock(%(now)s))::float8 AS at
    FROM q JOIN unnest(%(keys)s::text[], %(lock_seconds)s::float8[], %(refusals)s::int[], %(empty)s::boolean[],
                       %(leaves)s::boolean[]) AS s (key, lock_seconds, refusals, is_empty, leaves) USING (key)
), told AS MATERIALIZED (
    SELECT key, refusals, askers, due, is_empty, leaves, at,
           greatest(locked_until, CASE WHEN lock_seconds > 0 THEN at + lock_seconds ELSE 0 END) AS locked_until
    FROM moment
), asker AS (
    SELECT told.key, a.name, a.asked_at::float8 AS asked_at
    FROM told, jsonb_each_text(told.askers) AS a (name, asked_at)
    WHERE a.name <> %(asker)s AND a.asked_at::float8 > told.at - %(forget_seconds)s::float8
    UNION ALL
    SELECT key, %(asker)s, at FROM told WHERE NOT leaves
), company AS (
    SELECT told.key, coalesce(jsonb_object_agg(a.name, a.asked_at) FILTER (WHERE a.name IS NOT NULL), '{}') AS askers,
           count(a.name) AS those, count(*) FILTER (WHERE a.asked_at < told.at - %(active_seconds)s::float8) AS silent
    FROM told LEFT JOIN asker AS a USING (key)
    GROUP BY told.key
), part AS (
    SELECT key, askers, greatest(those - silent, 1) AS sharers,
           greatest(1 - %(fraction)s::float8 * silent / greatest(%(daemons)s::int, those, 1),
                    %(least_part)s::float8) AS part
    FROM company
), lane AS (
    SELECT l.key, l.name, l.interval_seconds / part AS interval_seconds, l.saved, l.guard, l.wanted, l.least,
           l.least_block, l.held, sharers, at, (l.least - 1) * l.interval_seconds / part AS first,
           greatest((told.due ->> l.name)::float8,
                    greatest(at, locked_until) + CASE WHEN is_empty OR locked_until > at THEN l.saved ELSE 0 END)
           - l.saved AS begins_at
    FROM told JOIN part USING (key)
    JOIN unnest(%(lane_keys)s::text[], %(names)s::text[], %(intervals)s::float8[], %(saved)s::float8[],
                %(guards)s::float8[], %(wanted)s::bigint[], %(least)s::bigint[], %(least_blocks)s::bigint[],
                %(held)s::bigint[])
         AS l (key, name, interval_seconds, saved, guard, wanted, least, least_block, held) USING (key)
), started AS (
    SELECT key, max(begins_at + first) AS starts_at, max(begins_at) <= max(at) + %(horizon_seconds)s::float8 AS is_near
    FROM lane GROUP BY key
), aligned AS (
    SELECT lane.*, is_near,
           CASE WHEN is_near THEN greatest(begins_at, starts_at - first) ELSE begins_at END AS aligned_at
    FROM lane JOIN started USING (key)
), counted AS (
    SELECT *, CASE WHEN NOT is_near THEN 0 ELSE
        least(wanted, greatest(CASE WHEN held > 0 THEN 0 ELSE greatest(least, least_block) END, least(
            greatest(floor(%(horizon_seconds)s::float8 / interval_seconds / sharers)::bigint, 1) - held,
            floor((at + %(horizon_seconds)s::float8 - aligned_at) / interval_seconds)::bigint + 1))) END AS count
    FROM aligned
), granted AS (
    SELECT key, jsonb_object_agg(name, aligned_at + saved + count * interval_seconds + guard)
                FILTER (WHERE count > 0) AS due,
           jsonb_object_agg(name, jsonb_build_array(aligned_at, count, interval_seconds)) AS blocks
    FROM counted GROUP BY key
), answer AS (
    SELECT key, told.locked_until, told.refusals, part.askers, told.due || coalesce(granted.due, '{}') AS due,
           jsonb_build_object('at', at, 'sharers', sharers, 'blocks', coalesce(granted.blocks, '{}')) AS granted
    FROM told JOIN part USING (key) LEFT JOIN granted USING (key)
)
UPDATE syncd.quota AS book
SET locked_until = answer.locked_until, refusals = answer.refusals, askers = answer.askers, due = answer.due,
    granted = answer.granted
FROM answer
WHERE book.key = answer.key
RETURNING book.key, book.locked_until, book.refusals, book.granted;
