-- name: known
-- Make keys known to the ledger.
INSERT INTO syncd.quota (key) SELECT key FROM unnest(%(keys)s::text[]) AS key ORDER BY key ON CONFLICT DO NOTHING;

-- name: reserve
-- Answer what a daemon asks for: `limits.ledger.reserve` says why, step by step. All is reckoned from the row as
-- it is once it is ours. (Not in SET: what is reckoned there of a row that another has meanwhile changed is reckoned
-- of its old version.)
WITH q AS MATERIALIZED (
        SELECT * FROM syncd.quota WHERE key = %(key)s FOR UPDATE
    ), moment AS MATERIALIZED (
        SELECT at, greatest(locked_until, CASE WHEN %(lock_seconds)s::float8 > 0
                                               THEN at + %(lock_seconds)s::float8 ELSE 0 END) AS locked_until
        FROM (SELECT locked_until, extract(epoch FROM syncd.clock(%(now)s))::float8 AS at FROM q) AS locked
    ), asker AS (
        SELECT a.name, a.asked_at::float8 AS asked_at
        FROM moment, q, jsonb_each_text(q.askers) AS a (name, asked_at)
        WHERE a.name <> %(asker)s AND a.asked_at::float8 > at - %(forget_seconds)s::float8
        UNION ALL
        SELECT %(asker)s, at FROM moment WHERE NOT %(leaves)s::boolean
    ), company AS (
        SELECT coalesce(jsonb_object_agg(name, asked_at), '{}') AS askers, count(*) AS askers_count,
               count(*) FILTER (WHERE asked_at < (SELECT at FROM moment) - %(active_seconds)s::float8) AS silent
        FROM asker
    ), part AS (
        SELECT askers, greatest(askers_count - silent, 1) AS sharers,
               greatest(1 - %(fraction)s::float8 * silent / greatest(%(daemons)s::int, askers_count, 1),
                        %(least_part)s::float8) AS part
        FROM company
    ), lane AS (
        SELECT l.name, l.interval_seconds / part AS interval_seconds, l.saved, l.guard, l.wanted, l.least,
               l.least_block, l.held, sharers, at, (l.least - 1) * l.interval_seconds / part AS first,
               greatest((q.due ->> l.name)::float8,
                        greatest(at, moment.locked_until)
                        + CASE WHEN %(empty)s::boolean OR moment.locked_until > at THEN l.saved ELSE 0 END)
               - l.saved AS begins_at
        FROM moment, part, q, unnest(%(names)s::text[], %(intervals)s::float8[], %(saved)s::float8[],
                                  %(guards)s::float8[], %(wanted)s::bigint[], %(least)s::bigint[],
                                  %(least_blocks)s::bigint[], %(held)s::bigint[])
             AS l (name, interval_seconds, saved, guard, wanted, least, least_block, held)
    ), started AS (
        SELECT max(begins_at + first) AS starts_at, max(begins_at) AS near_at FROM lane
    ), aligned AS (
        SELECT lane.*, is_near,
               CASE WHEN is_near THEN greatest(begins_at, starts_at - first) ELSE begins_at END AS aligned_at
        FROM lane, (SELECT starts_at, near_at <= (SELECT at FROM moment) + %(horizon_seconds)s::float8 AS is_near
                    FROM started) AS near
    ), counted AS (
        SELECT *, CASE WHEN NOT is_near THEN 0 ELSE
            least(wanted, greatest(CASE WHEN held > 0 THEN 0 ELSE greatest(least, least_block) END, least(
                greatest(floor(%(horizon_seconds)s::float8 / interval_seconds / sharers)::bigint, 1) - held,
                floor((at + %(horizon_seconds)s::float8 - aligned_at) / interval_seconds)::bigint + 1))) END AS count
        FROM aligned
    ), answer AS (
        SELECT moment.locked_until, q.refusals + %(refusals)s::int AS refusals, part.askers,
               q.due || coalesce((SELECT jsonb_object_agg(
                   name, aligned_at + saved + count * interval_seconds + guard) FROM counted WHERE count > 0), '{}') AS due,
               jsonb_build_object('at', at, 'sharers', sharers, 'blocks', coalesce((SELECT jsonb_object_agg(
                   name, jsonb_build_array(aligned_at, count, interval_seconds)) FROM counted), '{}')) AS granted
        FROM moment, part, q
    )
UPDATE syncd.quota AS book
SET locked_until = answer.locked_until, refusals = answer.refusals, askers = answer.askers, due = answer.due,
    granted = answer.granted
FROM answer
WHERE book.key = %(key)s
RETURNING book.locked_until, book.refusals, book.granted;
