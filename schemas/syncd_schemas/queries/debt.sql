-- name: failed
-- Items that could not be had: debt of partitions whose names fit, what is due first.
SELECT p.instance, p.account, p.feed, p.slice, s.number AS pass_number, s.state AS pass_state,
       encode(f.cursor_key, 'hex') AS cursor_key, f.cursor, f.attempts, f.failing_since, f.not_before,
       f.last_error, f.not_before <= syncd.clock(%(now)s) AS due
FROM syncd.partition p
JOIN syncd.pass s ON s.partition_id = p.id
JOIN syncd.frontier f ON f.pass_id = s.id
WHERE f.state = 'failed' AND encode(f.cursor_key, 'hex') LIKE %(cursor)s
  AND p.instance LIKE %(instance)s AND p.account LIKE %(account)s
  AND p.feed LIKE %(feed)s AND p.slice LIKE %(slice)s
ORDER BY f.not_before, p.id, f.cursor_key
LIMIT %(most)s;

-- name: retry
-- Let failed items be due: the next pass takes them up.
UPDATE syncd.frontier f SET not_before = syncd.clock(%(now)s)
FROM syncd.pass s JOIN syncd.partition p ON p.id = s.partition_id
WHERE s.id = f.pass_id AND f.state = 'failed' AND encode(f.cursor_key, 'hex') LIKE %(cursor)s
  AND f.not_before > syncd.clock(%(now)s)
  AND p.instance LIKE %(instance)s AND p.account LIKE %(account)s
  AND p.feed LIKE %(feed)s AND p.slice LIKE %(slice)s;

-- name: discard
-- Give failed items up for good.
DELETE FROM syncd.frontier f
USING syncd.pass s JOIN syncd.partition p ON p.id = s.partition_id
WHERE s.id = f.pass_id AND f.state = 'failed' AND encode(f.cursor_key, 'hex') LIKE %(cursor)s
  AND p.instance LIKE %(instance)s AND p.account LIKE %(account)s
  AND p.feed LIKE %(feed)s AND p.slice LIKE %(slice)s;
