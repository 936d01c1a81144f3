-- Jobs on a schedule: a round each time, with a turn for each partition of the job.

CREATE TABLE syncd.job (
    name       text PRIMARY KEY,
    schedule   text NOT NULL,
    state      text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'paused')),
    next_at    timestamptz,
    asked      text CHECK (asked IN ('trigger', 'after', 'queued')),
    cancelled  boolean NOT NULL DEFAULT false,
    rounds     int NOT NULL DEFAULT 0 CHECK (rounds >= 0)
);
COMMENT ON TABLE syncd.job IS 'Configured jobs, and what operators and schedules want of them. Any daemon obeys.';
COMMENT ON COLUMN syncd.job.name IS 'NAME of [jobs.NAME].';
COMMENT ON COLUMN syncd.job.schedule IS 'Its schedule as configured: where it changes, next_at is reckoned anew.';
COMMENT ON COLUMN syncd.job.state IS 'ready; paused (no round begins until it is resumed).';
COMMENT ON COLUMN syncd.job.next_at IS 'The next moment of its schedule; empty without one. Missed moments count once.';
COMMENT ON COLUMN syncd.job.asked IS 'A round is wanted beside the schedule: trigger (an operator), after (another job ended), queued (a moment came while a round ran).';
COMMENT ON COLUMN syncd.job.cancelled IS 'The running round is to be cut short, or the last one was.';
COMMENT ON COLUMN syncd.job.rounds IS 'How many rounds began.';

CREATE TABLE syncd.round (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job           text NOT NULL REFERENCES syncd.job ON DELETE CASCADE,
    number        int NOT NULL CHECK (number > 0),
    trigger       text NOT NULL CHECK (trigger IN ('schedule', 'trigger', 'after', 'queued', 'run', 'backfill')),
    owner         uuid,
    status        text NOT NULL DEFAULT 'running' CHECK (status IN
                  ('running', 'complete', 'partial', 'failed', 'cancelled', 'lost')),
    message       text NOT NULL DEFAULT '',
    partitions    int NOT NULL DEFAULT 0 CHECK (partitions >= 0),
    complete      int NOT NULL DEFAULT 0 CHECK (complete >= 0),
    started_at    timestamptz NOT NULL,
    spread_until  timestamptz NOT NULL,
    finished_at   timestamptz,
    duration_ms   bigint GENERATED ALWAYS AS
                  ((extract(epoch FROM finished_at - started_at) * 1000)::bigint) STORED,
    UNIQUE (job, number),
    CONSTRAINT finished_has_a_moment CHECK ((status = 'running') = (finished_at IS NULL)),
    CONSTRAINT only_commands_own_rounds CHECK ((owner IS NOT NULL) = (trigger IN ('run', 'backfill')))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX round_running ON syncd.round (job) WHERE status = 'running' AND owner IS NULL;
CREATE INDEX round_recent ON syncd.round (started_at DESC);
COMMENT ON TABLE syncd.round IS 'One time that a job is due: every partition of it has a turn. At most one that the daemons share is running per job.';
COMMENT ON COLUMN syncd.round.id IS 'Its number over all jobs.';
COMMENT ON COLUMN syncd.round.job IS 'The job.';
COMMENT ON COLUMN syncd.round.number IS 'Counts the job''s rounds.';
COMMENT ON COLUMN syncd.round.trigger IS 'schedule; trigger (an operator); after (another job ended); queued (a moment came while a round ran); run, backfill (a command).';
COMMENT ON COLUMN syncd.round.owner IS 'The process of the command; empty where all daemons share the round.';
COMMENT ON COLUMN syncd.round.status IS 'running; complete, partial, failed (by the job''s thresholds); cancelled; lost (its process is gone).';
COMMENT ON COLUMN syncd.round.message IS 'One line for the operator.';
COMMENT ON COLUMN syncd.round.partitions IS 'How many partitions had a turn.';
COMMENT ON COLUMN syncd.round.complete IS 'Of these, whose pass ended complete.';
COMMENT ON COLUMN syncd.round.started_at IS 'When it began.';
COMMENT ON COLUMN syncd.round.spread_until IS 'By when every partition is due: the jitter spreads them.';
COMMENT ON COLUMN syncd.round.finished_at IS 'When the last partition had its turn.';
COMMENT ON COLUMN syncd.round.duration_ms IS 'In milliseconds.';

CREATE TABLE syncd.turn (
    round_id      bigint NOT NULL REFERENCES syncd.round ON DELETE CASCADE,
    partition_id  bigint NOT NULL REFERENCES syncd.partition ON DELETE CASCADE,
    verdict       text CHECK (verdict IN ('complete', 'partial', 'waiting', 'failed', 'parked')),
    PRIMARY KEY (round_id, partition_id)
) WITH (fillfactor = 80);
CREATE INDEX turn_owed ON syncd.turn (partition_id, round_id) WHERE verdict IS NULL;
CREATE INDEX turn_owed_by_round ON syncd.turn (round_id) WHERE verdict IS NULL;
COMMENT ON TABLE syncd.turn IS 'What became of a partition in a running round; forgotten when the round ends.';
COMMENT ON COLUMN syncd.turn.round_id IS 'The round.';
COMMENT ON COLUMN syncd.turn.partition_id IS 'The partition.';
COMMENT ON COLUMN syncd.turn.verdict IS 'Empty: it had no turn yet. complete, partial, failed (as its pass); waiting (its pass stays open); parked.';

-- Whom a partition's next run is for: a daemon claims for one job at a time, in the order of an index.
ALTER TABLE syncd.partition ADD COLUMN job text;
COMMENT ON COLUMN syncd.partition.job IS 'The job that its next run is for; empty when nobody waits for one.';
CREATE INDEX partition_claim_for ON syncd.partition (job, claim_at, id) WHERE state = 'ready' AND job IS NOT NULL;

ALTER TABLE syncd.run ADD COLUMN round_id bigint REFERENCES syncd.round ON DELETE SET NULL;
COMMENT ON COLUMN syncd.run.round_id IS 'The round it was part of; empty for a run between two rounds.';
CREATE INDEX run_of_round ON syncd.run (round_id) WHERE round_id IS NOT NULL;

-- The query that operators know: SELECT job_name, status, message, duration_ms/1000, run_time FROM sync_logs
-- WHERE store_code IS NULL ORDER BY run_time DESC LIMIT 10.
CREATE VIEW syncd.sync_logs AS
SELECT job AS job_name, status, message, duration_ms, started_at AS run_time, NULL::text AS store_code
FROM syncd.round
UNION ALL
SELECT r.job, r.status, r.message, r.duration_ms, r.started_at,
       concat_ws('/', CASE WHEN p.account = 'default' THEN p.feed ELSE p.account END, nullif(p.slice, ''))
FROM syncd.run r JOIN syncd.partition p ON p.id = r.partition_id;
COMMENT ON VIEW syncd.sync_logs IS 'The history in one list: a row per job and round (store_code is null), and one per run of a partition.';
COMMENT ON COLUMN syncd.sync_logs.job_name IS 'The job.';
COMMENT ON COLUMN syncd.sync_logs.status IS 'As of the round, or of the run.';
COMMENT ON COLUMN syncd.sync_logs.message IS 'One line for the operator.';
COMMENT ON COLUMN syncd.sync_logs.duration_ms IS 'In milliseconds; empty while it runs.';
COMMENT ON COLUMN syncd.sync_logs.run_time IS 'When it began.';
COMMENT ON COLUMN syncd.sync_logs.store_code IS 'Empty for a round; else the account (or the feed, where the upstream has no accounts), and the slice.';
