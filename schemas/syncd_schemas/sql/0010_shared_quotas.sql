-- What several daemons may send together: one row per quota key, written by whoever uses it.

CREATE TABLE syncd.quota (
    key           text PRIMARY KEY CHECK (key <> ''),
    locked_until  double precision NOT NULL DEFAULT 0,
    refusals      bigint NOT NULL DEFAULT 0 CHECK (refusals >= 0),
    askers        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(askers) = 'object'),
    due           jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(due) = 'object'),
    granted       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(granted) = 'object')
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);
-- Hot rows, of a few hundred bytes: nothing that changes is in an index, so that old versions are pruned
-- in their page by whoever comes next, and there is room for those in between.
COMMENT ON TABLE syncd.quota IS 'What several daemons may send together. Emptying it is safe where none of them runs: what was sent is then forgotten.';
COMMENT ON COLUMN syncd.quota.key IS 'The quota: instance and key, as in events.';
COMMENT ON COLUMN syncd.quota.locked_until IS 'Until when its upstream asked everybody to wait, in seconds since 1970.';
COMMENT ON COLUMN syncd.quota.refusals IS 'How many requests the upstream refused; a daemon that sees it grow slows down.';
COMMENT ON COLUMN syncd.quota.askers IS 'Which daemons use it, and when each asked last, in seconds since 1970.';
COMMENT ON COLUMN syncd.quota.due IS 'By window: the moment of the next token, in seconds since 1970.';
COMMENT ON COLUMN syncd.quota.granted IS 'What the last one who asked was answered: by window, when its tokens begin, how many, how far apart.';
