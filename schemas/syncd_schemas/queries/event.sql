-- name: remember
-- Remember an event; no row is touched where it is known. Who comes second waits for the first one's COMMIT.
INSERT INTO syncd.event (instance, event_id, received_at)
VALUES (%(instance)s, %(event_id)s, syncd.clock(%(now)s))
ON CONFLICT (instance, event_id) DO NOTHING;

-- name: forget
-- Events past their time, some at a time.
DELETE FROM syncd.event e USING (
    SELECT instance, event_id FROM syncd.event
    WHERE received_at < syncd.clock(%(now)s) - make_interval(secs => %(kept_seconds)s)
    ORDER BY received_at LIMIT %(most)s) AS old
WHERE (e.instance, e.event_id) = (old.instance, old.event_id);
