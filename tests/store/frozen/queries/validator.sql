-- name: storage
-- The files that tables are kept in: emptied or made anew, a table has another.
SELECT name, pg_relation_filenode(to_regclass(format('%%I.%%I', schema, name)))::bigint AS file
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name);

-- name: stored
-- The validators of some cursors, of those that still hold good.
SELECT cursor_key, request_key, etag, last_modified, opens::text AS opens, page_end, page_dated, total, records
FROM syncd.validator
WHERE partition_id = %(partition)s AND cursor_key = ANY (%(keys)s::bytea[])
  AND fingerprint = %(fingerprint)s;

-- name: keep
-- Keep the validators of pages that are being committed, in key order.
INSERT INTO syncd.validator (partition_id, cursor_key, request_key, etag, last_modified, fingerprint,
                             opens, page_end, page_dated, total, records, pass_id)
SELECT %(partition)s, v.key, v.request_key, v.etag, v.last_modified, %(fingerprint)s, v.opens::json,
       v.page_end, v.page_dated, v.total, v.records::jsonb, %(pass)s
FROM unnest(%(keys)s::bytea[], %(request_keys)s::bytea[], %(etags)s::text[], %(last_modifieds)s::text[],
            %(opens)s::text[], %(ends)s::boolean[], %(dateds)s::boolean[], %(totals)s::bigint[],
            %(records)s::text[])
     AS v (key, request_key, etag, last_modified, opens, page_end, page_dated, total, records)
ORDER BY v.key
ON CONFLICT (partition_id, cursor_key) DO UPDATE
SET request_key = excluded.request_key, etag = excluded.etag, last_modified = excluded.last_modified,
    fingerprint = excluded.fingerprint, opens = excluded.opens, page_end = excluded.page_end,
    page_dated = excluded.page_dated, total = excluded.total, records = excluded.records,
    pass_id = excluded.pass_id;

-- name: confirm
-- Note that pages are what they were, in key order; a 304 may have told newer validators.
WITH held AS (
    SELECT s.cursor_key, v.etag, v.last_modified
    FROM syncd.validator s
    JOIN unnest(%(keys)s::bytea[], %(etags)s::text[], %(last_modifieds)s::text[])
         AS v (key, etag, last_modified) ON v.key = s.cursor_key
    WHERE s.partition_id = %(partition)s
    ORDER BY s.cursor_key
    FOR UPDATE OF s
)
UPDATE syncd.validator s
SET etag = held.etag, last_modified = held.last_modified, pass_id = %(pass)s
FROM held
WHERE s.partition_id = %(partition)s AND s.cursor_key = held.cursor_key;

-- name: drop
-- Forget the validators of pages that came without one, or of which a record was set aside.
DELETE FROM syncd.validator
WHERE partition_id = %(partition)s AND cursor_key = ANY (%(keys)s::bytea[]);

-- name: forget
-- Delete the validators of cursors that a full pass did not meet, a bounded number at a time.
WITH old AS (
    SELECT cursor_key FROM syncd.validator
    WHERE partition_id = %(partition)s AND pass_id <> %(pass)s
    LIMIT %(most)s
)
DELETE FROM syncd.validator v USING old
WHERE v.partition_id = %(partition)s AND v.cursor_key = old.cursor_key;
