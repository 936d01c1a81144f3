-- name: register_jobs
-- Make jobs known; a schedule that changed is reckoned anew, any other keeps its next moment.
INSERT INTO syncd.job (name, schedule, next_at)
SELECT j.name, j.schedule, j.next_at
FROM unnest(%(names)s::text[], %(schedules)s::text[], %(next_ats)s::timestamptz[]) AS j (name, schedule, next_at)
ORDER BY j.name
ON CONFLICT (name) DO UPDATE SET schedule = excluded.schedule, next_at = excluded.next_at
WHERE job.schedule IS DISTINCT FROM excluded.schedule;

-- name: know
-- Make a job known that no daemon has registered yet.
INSERT INTO syncd.job (name, schedule) VALUES (%(job)s, '') ON CONFLICT DO NOTHING;

-- name: states
-- How jobs stand, with their running round if there is one, and how often their instances' accounts have
-- changed. Turns that are owed are counted as far as all processes together have slots for them: with more,
-- nobody needs to know how many.
WITH live AS MATERIALIZED (
    SELECT greatest(count(*), 1) AS daemons FROM syncd.daemon
    WHERE heartbeat_at > syncd.clock(%(now)s) - make_interval(secs => %(stale_seconds)s)
)
SELECT j.name, j.state = 'paused' AS paused, j.next_at, j.asked, j.cancelled, r.id AS round_id,
       r.number AS round_number, r.started_at, syncd.clock(%(now)s) AS now, l.daemons::int AS daemons,
       (SELECT count(*)::int
        FROM (SELECT FROM syncd.turn t WHERE t.round_id = r.id AND t.verdict IS NULL LIMIT l.daemons * w.slots) o) AS owed,
       coalesce(i.accounts_revision, 0) AS accounts_revision
FROM live l, unnest(%(names)s::text[], %(slots)s::int[], %(instances)s::text[]) AS w (name, slots, instance)
JOIN syncd.job j ON j.name = w.name
LEFT JOIN syncd.instance i ON i.name = w.instance
LEFT JOIN syncd.round r ON r.job = j.name AND r.status = 'running' AND r.owner IS NULL
ORDER BY j.name;

-- name: lock_job
-- One daemon at a time decides about a job; whoever looked before has to look again if it has moved on.
SELECT rounds FROM syncd.job
WHERE name = %(job)s AND next_at IS NOT DISTINCT FROM %(next_at)s AND asked IS NOT DISTINCT FROM %(asked)s
  AND state = 'ready'
  AND NOT EXISTS (SELECT FROM syncd.round r WHERE r.job = %(job)s AND r.status = 'running' AND r.owner IS NULL)
FOR UPDATE;

-- name: reserve
-- One daemon looks up what a round is made of.
UPDATE syncd.job SET begins_until = syncd.clock(%(now)s) + make_interval(secs => %(reserve_seconds)s)
WHERE name = %(job)s AND next_at IS NOT DISTINCT FROM %(next_at)s AND asked IS NOT DISTINCT FROM %(asked)s
  AND state = 'ready' AND (begins_until IS NULL OR begins_until <= syncd.clock(%(now)s))
  AND NOT EXISTS (SELECT FROM syncd.round r WHERE r.job = %(job)s AND r.status = 'running' AND r.owner IS NULL);

-- name: begin
-- Begin a round, and take note in its job.
WITH counted AS (
    UPDATE syncd.job SET rounds = rounds + 1 WHERE name = %(job)s RETURNING rounds
)
INSERT INTO syncd.round (job, number, trigger, owner, partitions, started_at, spread_until)
SELECT %(job)s, rounds, %(trigger)s, %(owner)s, %(partitions)s, syncd.clock(%(now)s),
       syncd.clock(%(now)s) + make_interval(secs => %(jitter_seconds)s)
FROM counted
RETURNING id, number;

-- name: take_turns
-- Give every partition of a round its turn.
INSERT INTO syncd.turn (round_id, partition_id)
SELECT %(round)s, id FROM unnest(%(ids)s::bigint[]) AS id ORDER BY id;

-- name: make_due
-- Let partitions be claimed for a job, spread over the jitter by their numbers. Those that wait after a
-- failure, or run for another job, come when they are ready. (2654435761 spreads neighbours: Knuth's
-- multiplicative hash.)
UPDATE syncd.partition p
SET job = %(job)s, due_at = m.moment, claim_at = m.moment - make_interval(secs => p.priority)
FROM (SELECT id, syncd.clock(%(now)s)
             + make_interval(secs => %(jitter_seconds)s * ((id * 2654435761) %% 4294967296) / 4294967296.0) AS moment
      FROM unnest(%(ids)s::bigint[]) AS id) m
WHERE p.id = m.id AND p.token IS NULL AND (p.job IS NULL OR NOT p.job = ANY (%(known)s::text[]));

-- name: had_turns
-- Of these partitions, which have a turn in a round, and whether they owe it.
SELECT partition_id AS id, verdict IS NULL AS owes FROM syncd.turn
WHERE round_id = %(round)s AND partition_id = ANY (%(ids)s::bigint[]);

-- name: catch_up
-- Partitions of a derived feed are due when a pass of a feed they read has ended since their own last one
-- began. Not those that wait, run, or are set aside; and not while one they read is at work, whose end counts.
UPDATE syncd.partition p
SET job = %(job)s, due_at = syncd.clock(%(now)s), claim_at = syncd.clock(%(now)s) - make_interval(secs => p.priority)
WHERE p.id = ANY (%(ids)s::bigint[]) AND p.token IS NULL AND p.job IS NULL AND p.state = 'ready'
  AND NOT EXISTS (
      SELECT FROM syncd.partition s
      WHERE s.instance = p.instance AND s.feed = ANY (%(reads)s::text[]) AND s.token IS NOT NULL)
  AND EXISTS (
      SELECT FROM syncd.partition s
      CROSS JOIN LATERAL (
          SELECT x.ended_at FROM syncd.pass x
          WHERE x.partition_id = s.id AND x.state IN ('complete', 'partial') ORDER BY x.number DESC LIMIT 1) last
      WHERE s.instance = p.instance AND s.feed = ANY (%(reads)s::text[])
        AND last.ended_at > coalesce((
            SELECT x.started_at FROM syncd.pass x
            WHERE x.partition_id = p.id AND x.state IN ('complete', 'partial') ORDER BY x.number DESC LIMIT 1),
            '-infinity'));

-- name: let_go
-- Partitions that are no longer of a job are not claimed for it any more.
UPDATE syncd.partition SET job = NULL
WHERE job = %(job)s AND token IS NULL AND NOT id = ANY (%(ids)s::bigint[]);

-- name: plan
-- Say when the next round is due; what was asked for is begun, and what was cancelled is past.
UPDATE syncd.job SET next_at = %(next_at)s, asked = NULL, cancelled = false, begins_until = NULL WHERE name = %(job)s;

-- name: skip
-- A moment passes by, unless another daemon saw to it.
UPDATE syncd.job SET next_at = %(next_at)s, asked = coalesce(%(asked)s, asked)
WHERE name = %(job)s AND next_at = %(seen)s;

-- name: adopt
-- Partitions with a turn that nobody would claim: they were given back by a process of a release that knew
-- no jobs, which may run beside this one until it is restarted.
UPDATE syncd.partition p
SET job = r.job, due_at = syncd.clock(%(now)s), claim_at = syncd.clock(%(now)s) - make_interval(secs => p.priority)
FROM syncd.turn t JOIN syncd.round r ON r.id = t.round_id
WHERE t.round_id = %(round)s AND t.verdict IS NULL AND r.status = 'running' AND p.id = t.partition_id
  AND p.token IS NULL AND p.job IS NULL AND p.state = 'ready';

-- name: settle_unable
-- Turns that nobody can take: the partition is parked, or waits for longer than a round does.
UPDATE syncd.turn t
SET verdict = CASE WHEN p.state = 'parked' OR a.state = 'parked' THEN 'parked' ELSE 'waiting' END
FROM syncd.round r, syncd.partition p JOIN syncd.account a ON a.instance = p.instance AND a.name = p.account
WHERE r.id = %(round)s AND t.round_id = r.id AND t.verdict IS NULL AND p.id = t.partition_id
  AND p.token IS NULL
  AND (p.state = 'parked' OR a.state = 'parked'
       OR p.due_at > greatest(r.spread_until, syncd.clock(%(now)s) + make_interval(secs => %(patience_seconds)s)));

-- name: settle
-- A run of a job has ended: that is the partition's word in the job's round, until the round ends.
UPDATE syncd.turn t SET verdict = %(verdict)s
FROM syncd.round r
WHERE t.partition_id = %(id)s AND r.id = t.round_id AND r.job = %(job)s AND r.status = 'running';

-- name: forgo_turn
-- A partition that is configured no more has no turn: its round does not wait for it.
DELETE FROM syncd.turn t USING syncd.round r
WHERE t.partition_id = %(id)s AND r.id = t.round_id AND r.job = %(job)s AND r.status = 'running';

-- name: lock_round
-- One daemon closes a round.
SELECT r.id FROM syncd.round r JOIN syncd.job j ON j.name = r.job
WHERE r.id = %(round)s AND r.status = 'running'
FOR UPDATE OF r;

-- name: verdicts
-- What became of a round's partitions.
SELECT coalesce(verdict, 'owed') AS verdict, count(*)::int AS partitions FROM syncd.turn
WHERE round_id = %(round)s GROUP BY 1;

-- name: finish
-- End a round.
UPDATE syncd.round
SET status = %(status)s, message = %(message)s, complete = %(complete)s,
    partitions = coalesce(%(partitions)s, partitions), finished_at = syncd.clock(%(now)s)
WHERE id = %(round)s AND status = 'running';

-- name: forget_turns
-- A round that has ended needs its turns no more: its runs are the history.
DELETE FROM syncd.turn WHERE round_id = %(round)s;

-- name: cancelled
-- A cancelled job's partitions rest until its next round; the mark stays until then, for every daemon to see.
UPDATE syncd.partition SET job = NULL WHERE job = %(job)s AND token IS NULL;

-- name: follow
-- Ask for a round of a job that comes after others, once each of these has ended well since its last one.
UPDATE syncd.job d SET asked = coalesce(d.asked, 'after')
WHERE d.name = %(job)s AND NOT EXISTS (
    SELECT FROM unnest(%(after)s::text[]) AS a (name)
    WHERE NOT EXISTS (
        SELECT FROM syncd.round r
        WHERE r.job = a.name AND r.status IN ('complete', 'partial') AND r.finished_at > coalesce(
            (SELECT max(o.started_at) FROM syncd.round o WHERE o.job = d.name), '-infinity'))
);

-- name: orphans
-- Rounds of commands whose process is gone.
UPDATE syncd.round r
SET status = 'lost', finished_at = syncd.clock(%(now)s), message = 'its process is gone'
WHERE r.status = 'running' AND r.owner IS NOT NULL AND NOT EXISTS (
    SELECT FROM syncd.daemon d
    WHERE d.id = r.owner
      AND d.heartbeat_at > syncd.clock(%(now)s) - make_interval(secs => %(stale_seconds)s));

-- name: ask
-- An operator wants a round now.
UPDATE syncd.job SET asked = 'trigger' WHERE name = %(job)s;

-- name: pause
-- No round begins until the job is resumed.
UPDATE syncd.job SET state = 'paused' WHERE name = %(job)s AND state = 'ready';

-- name: unpause
-- Rounds begin again.
UPDATE syncd.job SET state = 'ready' WHERE name = %(job)s AND state = 'paused';

-- name: cancel
-- Cut the running round short.
UPDATE syncd.job j SET cancelled = true
WHERE name = %(job)s
  AND EXISTS (SELECT FROM syncd.round r WHERE r.job = j.name AND r.status = 'running' AND r.owner IS NULL);

-- name: forget_runs
-- History past its retention, some rows at a time.
DELETE FROM syncd.run WHERE id IN (
    SELECT id FROM syncd.run
    WHERE started_at < syncd.clock(%(now)s) - make_interval(secs => %(history_seconds)s) AND status <> 'running'
    ORDER BY started_at LIMIT %(most)s);

-- name: forget_rounds
-- The same for rounds.
DELETE FROM syncd.round WHERE id IN (
    SELECT id FROM syncd.round
    WHERE started_at < syncd.clock(%(now)s) - make_interval(secs => %(history_seconds)s) AND status <> 'running'
    ORDER BY started_at LIMIT %(most)s);
