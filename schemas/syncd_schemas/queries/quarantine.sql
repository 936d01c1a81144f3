-- name: list
-- Records that were set aside, the newest first.
SELECT id, instance, account, stream, key, reason, message, raw_bytes, length(raw) AS kept_bytes, version,
       cursor, pass_id, first_seen_at, last_seen_at, repeats,
       count(*) OVER () AS matching
FROM syncd.quarantine
WHERE instance LIKE %(instance)s AND account LIKE %(account)s AND stream LIKE %(stream)s
  AND reason LIKE %(reason)s AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]))
ORDER BY last_seen_at DESC, id DESC
LIMIT %(most)s;

-- name: show
-- Records that were set aside, whole.
SELECT id, instance, account, stream, key, reason, message, raw, raw_bytes, version, cursor, parent, sent_at,
       pass_id, first_seen_at, last_seen_at, repeats
FROM syncd.quarantine
WHERE id = ANY (%(ids)s::bigint[])
ORDER BY id;

-- name: discard
-- Forget records that were set aside.
DELETE FROM syncd.quarantine
WHERE instance LIKE %(instance)s AND account LIKE %(account)s AND stream LIKE %(stream)s
  AND reason LIKE %(reason)s AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]));

-- name: newest
-- The number of the record that was set aside last.
SELECT coalesce(max(id), 0) AS id FROM syncd.quarantine;

-- name: following
-- The next records behind a number, in the order in which they were first set aside.
SELECT id, instance, account, stream, raw, raw_bytes, raw_hash, version, parent, sent_at, repeats
FROM syncd.quarantine
WHERE instance LIKE %(instance)s AND account LIKE %(account)s AND stream LIKE %(stream)s
  AND reason LIKE %(reason)s AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]))
  AND id > %(after)s AND id <= %(upto)s
ORDER BY id
LIMIT %(most)s;

-- name: hold
-- Lock records that are about to be written, in the order of their numbers: those that are as they were read.
SELECT q.id FROM syncd.quarantine q
JOIN unnest(%(ids)s::bigint[], %(repeats)s::int[]) AS read (id, repeats)
  ON read.id = q.id AND read.repeats = q.repeats
ORDER BY q.id
FOR UPDATE OF q;

-- name: settled
-- Forget records whose rows are written.
DELETE FROM syncd.quarantine WHERE id = ANY (%(ids)s::bigint[]);

-- name: failed_again
-- Count records up that failed once more, and say what they failed with now.
UPDATE syncd.quarantine q
SET repeats = q.repeats + 1, reason = f.reason, message = f.message, last_seen_at = syncd.clock(%(now)s)
FROM unnest(%(ids)s::bigint[], %(reasons)s::text[], %(messages)s::text[]) AS f (id, reason, message)
WHERE q.id = f.id;
