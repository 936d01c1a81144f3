-- name: begin
-- Say that from here on no key of a pass is missing: written when the pass begins, and only then.
INSERT INTO syncd.seen (partition_id, pass_id, stream)
SELECT %(partition)s, %(pass)s, stream FROM unnest(%(streams)s::text[]) AS stream;

-- name: blind
-- Say that keys of a pass are missing.
DELETE FROM syncd.seen
WHERE partition_id = %(partition)s AND pass_id = %(pass)s AND stream = ANY (%(streams)s::text[]) AND key IS NULL;

-- name: ended_full
-- The partition's last two full passes that have ended, the last one first.
SELECT id, number, state, started_at FROM syncd.pass
WHERE partition_id = %(partition)s AND mode = 'full' AND state <> 'open'
ORDER BY number DESC LIMIT 2;

-- name: between
-- The passes from one to another, these two included, and whether all of their keys are there.
SELECT p.id, EXISTS (SELECT FROM syncd.seen s
                     WHERE s.partition_id = p.partition_id AND s.pass_id = p.id
                       AND s.stream = %(stream)s AND s.key IS NULL) AS whole
FROM syncd.pass p
WHERE p.partition_id = %(partition)s AND p.number BETWEEN %(first)s AND %(last)s
ORDER BY p.number;

-- name: ended_full_of_shares
-- The last two full passes that have ended of each share of a partition's feed, the last one first, and whether all
-- of their keys are there.
SELECT s.id AS partition_id, f.id, f.state, f.started_at, f.ended_at,
       EXISTS (SELECT FROM syncd.seen k
               WHERE k.partition_id = s.id AND k.pass_id = f.id AND k.stream = %(stream)s AND k.key IS NULL) AS whole
FROM syncd.partition me
JOIN syncd.partition s ON (s.instance, s.account, s.feed) = (me.instance, me.account, me.feed)
LEFT JOIN LATERAL (
    SELECT p.id, p.number, p.state, p.started_at, p.ended_at FROM syncd.pass p
    WHERE p.partition_id = s.id AND p.mode = 'full' AND p.state <> 'open'
    ORDER BY p.number DESC LIMIT 2
) f ON true
WHERE me.id = %(partition)s AND s.covers = 'share'
ORDER BY s.id, f.number DESC;

-- name: spoke
-- The passes of a partition's feed that were walked since a moment, whatever they cover.
SELECT p.id, p.partition_id
FROM syncd.partition me
JOIN syncd.partition s ON (s.instance, s.account, s.feed) = (me.instance, me.account, me.feed)
JOIN syncd.pass p ON p.partition_id = s.id
WHERE me.id = %(partition)s AND (p.ended_at IS NULL OR p.ended_at >= %(before)s);

-- name: settled
-- Forget that the keys of a stream's passes below a number are whole: what they could tell was told.
DELETE FROM syncd.seen
WHERE partition_id = %(partition)s AND stream = %(stream)s AND pass_id < %(below)s AND key IS NULL;

-- name: unwanted
-- The same for streams that nobody judges any more.
DELETE FROM syncd.seen
WHERE partition_id = %(partition)s AND NOT stream = ANY (%(streams)s::text[]) AND key IS NULL;

-- name: forget
-- Delete keys of passes that are not whole, a bounded number at a time.
DELETE FROM syncd.seen
WHERE ctid = ANY (ARRAY(
    SELECT s.ctid FROM syncd.seen s
    WHERE s.partition_id = %(partition)s AND s.key IS NOT NULL
      AND NOT EXISTS (SELECT FROM syncd.seen w
                      WHERE w.partition_id = s.partition_id AND w.pass_id = s.pass_id
                        AND w.stream = s.stream AND w.key IS NULL)
    LIMIT %(most)s));
