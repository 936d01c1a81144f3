-- name: open_cursors
-- Open cursors, each once per pass, in key order: two writers that open the same ones wait for each other
-- instead of deadlocking. One that stands already, open or closed, is left alone and not locked. Answers
-- with the keys of the rows that it really opened.
INSERT INTO syncd.frontier (pass_id, cursor_key, cursor, number, kind, depth, ordinal, version)
SELECT %(pass)s, c.key, c.value::jsonb, c.number, c.kind, c.depth, c.ordinal, c.version
FROM unnest(%(keys)s::bytea[], %(values)s::text[], %(numbers)s::int[], %(kinds)s::text[],
            %(depths)s::int[], %(ordinals)s::bigint[], %(versions)s::bigint[])
     AS c (key, value, number, kind, depth, ordinal, version)
ORDER BY c.key
ON CONFLICT (pass_id, cursor_key) DO NOTHING
RETURNING cursor_key;

-- name: raise_versions
-- Open items again that come with a higher version than they were walked at, where they were named last:
-- whoever reads the table is told that place.
WITH risen AS (
    SELECT f.cursor_key, c.version, c.depth, c.ordinal
    FROM syncd.frontier f
    JOIN unnest(%(keys)s::bytea[], %(versions)s::bigint[], %(depths)s::int[], %(ordinals)s::bigint[])
         AS c (key, version, depth, ordinal) ON c.key = f.cursor_key
    WHERE f.pass_id = %(pass)s AND f.kind = 'item' AND f.cursor_key = ANY (%(keys)s::bytea[])
      AND c.version > coalesce(f.version, -9223372036854775808)
    ORDER BY f.cursor_key
    FOR UPDATE OF f
)
UPDATE syncd.frontier f
SET state = 'open', version = risen.version, depth = risen.depth, ordinal = risen.ordinal, attempts = 0, failing_since = NULL,
    not_before = '-infinity', last_error = NULL
FROM risen
WHERE f.pass_id = %(pass)s AND f.cursor_key = risen.cursor_key
RETURNING f.cursor_key;

-- name: close_cursors
-- Close the cursors of a batch's pages, and the numbered ones above the end marker, in key order. An item
-- whose version has meanwhile risen above the fetched one stays open.
-- Here and below "neither closed nor failed" is open, said so that only the primary key serves: the
-- index of what is open would be read from its front, through all that was closed.
WITH page AS (
    SELECT * FROM unnest(%(keys)s::bytea[], %(versions)s::bigint[], %(empties)s::boolean[])
           AS p (key, version, empty)
), named AS (
    SELECT key FROM page
    UNION ALL
    SELECT cursor_key FROM syncd.frontier
    WHERE pass_id = %(pass)s AND state = 'open' AND number > %(end)s::int
), held AS (
    SELECT f.cursor_key, p.key IS NOT NULL AS fetched,
           coalesce(f.version > p.version, false) AS risen, coalesce(p.empty, true) AS empty
    FROM syncd.frontier f LEFT JOIN page p ON p.key = f.cursor_key
    WHERE f.pass_id = %(pass)s AND f.state NOT IN ('closed', 'failed')
      AND f.cursor_key = ANY (ARRAY(SELECT key FROM named))
    ORDER BY f.cursor_key
    FOR UPDATE OF f
)
UPDATE syncd.frontier f
SET state = CASE WHEN held.risen THEN 'open' ELSE 'closed' END,
    empty = held.empty AND NOT held.risen,
    attempts = 0, failing_since = NULL, last_error = NULL
FROM held
WHERE f.pass_id = %(pass)s AND f.cursor_key = held.cursor_key
RETURNING held.fetched;

-- name: next_cursors
-- The next open cursors of a range of places: items first, then what leads on, the deepest first. Reads
-- nothing outside of the range, where the index may be full of entries of closed cursors.
SELECT cursor_key, cursor, number, kind, version, depth, ordinal, attempts, failing_since,
       CASE WHEN not_before > syncd.clock(%(now)s)
            THEN extract(epoch FROM not_before - syncd.clock(%(now)s))::float8 END AS wait_seconds
FROM syncd.frontier
WHERE pass_id = %(pass)s AND state = 'open'
  AND (kind = 'chain', -depth, ordinal, cursor_key)
      >= (%(leads_on)s::boolean, %(depth)s::int, %(ordinal)s::bigint, %(key)s::bytea)
  AND (kind = 'chain', -depth, ordinal, cursor_key)
      < (%(end_leads_on)s::boolean, %(end_depth)s::int, %(end_ordinal)s::bigint, %(end_key)s::bytea)
ORDER BY kind = 'chain', -depth, ordinal, cursor_key
LIMIT %(most)s;

-- name: last_error
-- What the last failure of a cursor said.
SELECT last_error FROM syncd.frontier WHERE pass_id = %(pass)s AND cursor_key = %(key)s;

-- name: highest_number
-- Up to which page number pages stand in the table, and what the pages' cursors share.
SELECT number, cursor FROM syncd.frontier
WHERE pass_id = %(pass)s AND number IS NOT NULL
ORDER BY number DESC LIMIT 1;

-- name: still_open
-- Which of these are open.
SELECT cursor_key FROM syncd.frontier
WHERE pass_id = %(pass)s AND cursor_key = ANY (%(keys)s::bytea[])
  AND state NOT IN ('closed', 'failed');

-- name: fail_cursor
-- Note a failure: the cursor waits, or an item becomes debt.
UPDATE syncd.frontier
SET attempts = attempts + 1,
    failing_since = coalesce(failing_since, syncd.clock(%(now)s)),
    not_before = syncd.clock(%(now)s) + make_interval(secs => %(wait_seconds)s),
    last_error = %(error)s,
    outage = %(outage)s,
    state = CASE WHEN %(give_up)s AND kind = 'item' THEN 'failed' ELSE state END
WHERE pass_id = %(pass)s AND cursor_key = %(key)s AND state NOT IN ('closed', 'failed')
RETURNING attempts;
