-- How each process keeps to each quota, for whoever asks: `syncd limits`.

CREATE TABLE syncd.quota_usage (
    daemon          uuid NOT NULL REFERENCES syncd.daemon ON DELETE CASCADE,
    key             text NOT NULL,
    windows         jsonb NOT NULL CHECK (jsonb_typeof(windows) = 'array'),
    in_flight       int NOT NULL CHECK (in_flight >= 0),
    ceiling         int NOT NULL CHECK (ceiling >= 1),
    adaptive        boolean NOT NULL,
    rate            double precision CHECK (rate > 0),
    locked_until    timestamptz,
    waiting         int NOT NULL CHECK (waiting >= 0),
    broken_origins  text[] NOT NULL DEFAULT '{}',
    sent            bigint NOT NULL CHECK (sent >= 0),
    refused         bigint NOT NULL CHECK (refused BETWEEN 0 AND sent),
    seen_at         timestamptz NOT NULL,
    PRIMARY KEY (daemon, key)
);
COMMENT ON TABLE syncd.quota_usage IS 'What each process uses of each quota, noted every few seconds while it changes; a row of a process that is gone goes with it.';
COMMENT ON COLUMN syncd.quota_usage.daemon IS 'The process.';
COMMENT ON COLUMN syncd.quota_usage.key IS 'Instance and key of the quota.';
COMMENT ON COLUMN syncd.quota_usage.windows IS 'What is allowed, and what of it is used: form, most, per_seconds, unit, used.';
COMMENT ON COLUMN syncd.quota_usage.in_flight IS 'Requests under way.';
COMMENT ON COLUMN syncd.quota_usage.ceiling IS 'Requests that may be under way at once.';
COMMENT ON COLUMN syncd.quota_usage.adaptive IS 'Whether refusals and timeouts move the ceiling, and the rate.';
COMMENT ON COLUMN syncd.quota_usage.rate IS 'The rate that is sought, in requests per second; empty where it is declared, or there is none.';
COMMENT ON COLUMN syncd.quota_usage.locked_until IS 'Until when the upstream asked everybody to wait.';
COMMENT ON COLUMN syncd.quota_usage.waiting IS 'Requests that wait for their turn.';
COMMENT ON COLUMN syncd.quota_usage.broken_origins IS 'Origins that failed again and again and are left alone.';
COMMENT ON COLUMN syncd.quota_usage.sent IS 'Requests sent since the process began.';
COMMENT ON COLUMN syncd.quota_usage.refused IS 'Those of them that were told to wait.';
COMMENT ON COLUMN syncd.quota_usage.seen_at IS 'When this was so.';
