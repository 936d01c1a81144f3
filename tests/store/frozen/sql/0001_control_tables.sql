-- The control tables of syncd: who works on what, where each walk stands, what was set aside.
-- Applied once, in one transaction, by syncd itself (`syncd migrate`). Every moment stored here comes
-- from syncd.clock(); no default and no trigger reads a clock or draws randomness otherwise.

CREATE SCHEMA IF NOT EXISTS syncd;
COMMENT ON SCHEMA syncd IS 'Control tables of syncd. Data tables live in one schema per instance.';

-- The one clock: a simulation or a test passes its own moment.
CREATE FUNCTION syncd.clock(now timestamptz DEFAULT NULL) RETURNS timestamptz
    LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$ SELECT coalesce(now, clock_timestamp()) $$;
COMMENT ON FUNCTION syncd.clock IS 'The clock of record: what is passed in, else the server''s wall clock.';

CREATE TABLE syncd.migration (
    number      int PRIMARY KEY,
    name        text NOT NULL,
    applied_at  timestamptz NOT NULL
);
COMMENT ON TABLE syncd.migration IS 'Which control-table migrations were applied.';
COMMENT ON COLUMN syncd.migration.number IS 'The number its file name begins with.';
COMMENT ON COLUMN syncd.migration.name IS 'The rest of its file name.';
COMMENT ON COLUMN syncd.migration.applied_at IS 'When.';

CREATE TABLE syncd.instance (
    name            text PRIMARY KEY,
    plugin          text NOT NULL,
    plugin_version  text NOT NULL,
    seen_at         timestamptz NOT NULL
);
COMMENT ON TABLE syncd.instance IS 'Configured connectors, as the last process that used them knew them.';
COMMENT ON COLUMN syncd.instance.name IS 'NAME of [connectors.NAME].';
COMMENT ON COLUMN syncd.instance.plugin IS 'The connector''s name.';
COMMENT ON COLUMN syncd.instance.plugin_version IS 'The connector''s version when last seen.';
COMMENT ON COLUMN syncd.instance.seen_at IS 'When a process last registered it.';

CREATE TABLE syncd.account (
    instance       text NOT NULL REFERENCES syncd.instance,
    name           text NOT NULL,
    state          text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'parked')),
    parked_reason  text,
    parked_at      timestamptz,
    PRIMARY KEY (instance, name),
    CONSTRAINT parked_has_a_reason CHECK ((state = 'parked') = (parked_reason IS NOT NULL)
                                      AND (state = 'parked') = (parked_at IS NOT NULL))
);
COMMENT ON TABLE syncd.account IS 'Tenants of an instance; one named default where the upstream has none.';
COMMENT ON COLUMN syncd.account.instance IS 'The instance it belongs to.';
COMMENT ON COLUMN syncd.account.name IS 'Its name in the configuration.';
COMMENT ON COLUMN syncd.account.state IS 'ready; parked (its credential was refused: none of its partitions is claimed).';
COMMENT ON COLUMN syncd.account.parked_reason IS 'Why it was parked.';
COMMENT ON COLUMN syncd.account.parked_at IS 'When it was parked.';

CREATE TABLE syncd.daemon (
    id            uuid PRIMARY KEY,
    host          text NOT NULL,
    pid           int NOT NULL,
    version       text NOT NULL,
    started_at    timestamptz NOT NULL,
    heartbeat_at  timestamptz NOT NULL
);
COMMENT ON TABLE syncd.daemon IS 'Processes that work on this database; a stale heartbeat means gone.';
COMMENT ON COLUMN syncd.daemon.id IS 'Drawn at start.';
COMMENT ON COLUMN syncd.daemon.host IS 'Host name.';
COMMENT ON COLUMN syncd.daemon.pid IS 'Process number on that host.';
COMMENT ON COLUMN syncd.daemon.version IS 'Version of syncd.';
COMMENT ON COLUMN syncd.daemon.started_at IS 'When it started.';
COMMENT ON COLUMN syncd.daemon.heartbeat_at IS 'Its last sign of life.';

CREATE TABLE syncd.partition (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance          text NOT NULL,
    account           text NOT NULL,
    feed              text NOT NULL,
    slice             text NOT NULL DEFAULT '',
    slice_settings    jsonb NOT NULL DEFAULT '{}',
    priority          int NOT NULL DEFAULT 0,
    state             text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'parked')),
    parked_reason     text,
    due_at            timestamptz NOT NULL,
    claim_at          timestamptz NOT NULL,
    epoch             bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    token             uuid,
    owner             uuid,
    lease_until       timestamptz,
    watermark         timestamptz,
    row_fingerprints  jsonb NOT NULL DEFAULT '{}',
    failures          int NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since     timestamptz,
    failed_passes     int NOT NULL DEFAULT 0 CHECK (failed_passes >= 0),
    last_error        text,
    UNIQUE (instance, account, feed, slice),
    FOREIGN KEY (instance, account) REFERENCES syncd.account (instance, name),
    CONSTRAINT parked_has_a_reason CHECK ((state = 'parked') = (parked_reason IS NOT NULL)),
    CONSTRAINT a_lease_is_whole CHECK ((token IS NULL) = (lease_until IS NULL)
                                   AND (token IS NULL) = (owner IS NULL)),
    CONSTRAINT failing_has_a_start CHECK ((failures > 0) = (failing_since IS NOT NULL))
) WITH (fillfactor = 70);  -- renewals stay HOT: they touch no indexed column
COMMENT ON TABLE syncd.partition IS 'Account x feed x slice: what is leased, has a watermark, and is run.';
COMMENT ON COLUMN syncd.partition.id IS 'Its number.';
COMMENT ON COLUMN syncd.partition.instance IS 'The instance.';
COMMENT ON COLUMN syncd.partition.account IS 'The account.';
COMMENT ON COLUMN syncd.partition.feed IS 'The feed.';
COMMENT ON COLUMN syncd.partition.slice IS 'The slice; empty for the whole feed.';
COMMENT ON COLUMN syncd.partition.slice_settings IS 'What shapes the slice''s requests.';
COMMENT ON COLUMN syncd.partition.priority IS 'Seconds by which it is claimed earlier than its due time.';
COMMENT ON COLUMN syncd.partition.state IS 'ready; parked (waits for an operator). Leased follows from lease_until.';
COMMENT ON COLUMN syncd.partition.parked_reason IS 'Why it was parked.';
COMMENT ON COLUMN syncd.partition.due_at IS 'When it is to be run next.';
COMMENT ON COLUMN syncd.partition.claim_at IS 'Not claimed before, and the order of claims: due_at less the priority''s bonus; under a lease, when that would first run out.';
COMMENT ON COLUMN syncd.partition.epoch IS 'Grows with every claim: orders the leases. Part of a unique index, so that taking a lease conflicts with the key-share lock of a commit.';
COMMENT ON COLUMN syncd.partition.token IS 'Identifies the lease.';
COMMENT ON COLUMN syncd.partition.owner IS 'The daemon that holds the lease.';
COMMENT ON COLUMN syncd.partition.lease_until IS 'Until when the lease holds unless renewed. In no index.';
COMMENT ON COLUMN syncd.partition.watermark IS 'What the next incremental pass starts from.';
COMMENT ON COLUMN syncd.partition.row_fingerprints IS 'Per stream, how the last complete full pass made rows of records.';
COMMENT ON COLUMN syncd.partition.failures IS 'Runs in a row that failed without committing a page.';
COMMENT ON COLUMN syncd.partition.failing_since IS 'When the first of them ended.';
COMMENT ON COLUMN syncd.partition.failed_passes IS 'Passes in a row that failed.';
COMMENT ON COLUMN syncd.partition.last_error IS 'What the last failure said.';

-- Part of the fence: with the epoch in a unique index a claim is a key update, which waits for (or,
-- with SKIP LOCKED, passes over) the FOR KEY SHARE lock that every commit holds; renewals are not.
CREATE UNIQUE INDEX partition_fence ON syncd.partition (id, epoch);
CREATE INDEX partition_claim ON syncd.partition (claim_at, id) WHERE state = 'ready';

CREATE TABLE syncd.pass (
    id                   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition_id         bigint NOT NULL REFERENCES syncd.partition ON DELETE CASCADE,
    number               int NOT NULL CHECK (number > 0),
    mode                 text NOT NULL CHECK (mode IN ('full', 'incremental', 'backfill')),
    since                timestamptz,
    until                timestamptz NOT NULL,
    until_lowered        boolean NOT NULL DEFAULT false,
    started_at           timestamptz NOT NULL,
    ended_at             timestamptz,
    state                text NOT NULL DEFAULT 'open'
                         CHECK (state IN ('open', 'complete', 'partial', 'failed', 'superseded')),
    request_fingerprint  text NOT NULL,
    row_fingerprints     jsonb NOT NULL,
    connector_version    text NOT NULL,
    high                 int NOT NULL DEFAULT 0 CHECK (high >= 0),
    ends_at              int CHECK (ends_at > 0),
    pages                bigint NOT NULL DEFAULT 0,
    records              bigint NOT NULL DEFAULT 0,
    inserted             bigint NOT NULL DEFAULT 0,
    updated              bigint NOT NULL DEFAULT 0,
    unchanged            bigint NOT NULL DEFAULT 0,
    stale                bigint NOT NULL DEFAULT 0,
    quarantined          bigint NOT NULL DEFAULT 0,
    UNIQUE (partition_id, number),
    CONSTRAINT ended_has_a_moment CHECK ((state = 'open') = (ended_at IS NULL)),
    CONSTRAINT a_full_pass_starts_from_nothing CHECK ((mode = 'full') = (since IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX pass_open ON syncd.pass (partition_id) WHERE state = 'open';
COMMENT ON TABLE syncd.pass IS 'One walk of a partition''s pages, from its first cursors to an empty frontier; at most one is open per partition.';
COMMENT ON COLUMN syncd.pass.id IS 'Its number over all partitions.';
COMMENT ON COLUMN syncd.pass.partition_id IS 'The partition it walks.';
COMMENT ON COLUMN syncd.pass.number IS 'Counts the partition''s passes.';
COMMENT ON COLUMN syncd.pass.mode IS 'full; incremental (what changed since); backfill (bounds of its own, moves no watermark).';
COMMENT ON COLUMN syncd.pass.since IS 'What an incremental pass starts from.';
COMMENT ON COLUMN syncd.pass.until IS 'Becomes the watermark when the pass completes: the database''s clock at its beginning, or the first response''s Date less a safety lag.';
COMMENT ON COLUMN syncd.pass.until_lowered IS 'The first page was committed; until is final.';
COMMENT ON COLUMN syncd.pass.started_at IS 'When it began.';
COMMENT ON COLUMN syncd.pass.ended_at IS 'When it ended.';
COMMENT ON COLUMN syncd.pass.state IS 'open; complete; partial (items failed and go on as debt); failed (a chain broke); superseded (its cursors mean something else by now).';
COMMENT ON COLUMN syncd.pass.request_fingerprint IS 'What its cursors mean: paging version, request-shaping settings, slice.';
COMMENT ON COLUMN syncd.pass.row_fingerprints IS 'Per stream, how this pass makes rows of records.';
COMMENT ON COLUMN syncd.pass.connector_version IS 'The version that began it; an older daemon does not supersede it.';
COMMENT ON COLUMN syncd.pass.high IS 'Numbered pages: the highest page that held records.';
COMMENT ON COLUMN syncd.pass.ends_at IS 'Numbered pages: the page that bore the upstream''s end marker.';
COMMENT ON COLUMN syncd.pass.pages IS 'Pages committed.';
COMMENT ON COLUMN syncd.pass.records IS 'Records of committed pages.';
COMMENT ON COLUMN syncd.pass.inserted IS 'Rows inserted.';
COMMENT ON COLUMN syncd.pass.updated IS 'Rows updated.';
COMMENT ON COLUMN syncd.pass.unchanged IS 'Rows that were there already, equal.';
COMMENT ON COLUMN syncd.pass.stale IS 'Rows older than what was there.';
COMMENT ON COLUMN syncd.pass.quarantined IS 'Records set aside.';

CREATE TABLE syncd.frontier (
    pass_id          bigint NOT NULL REFERENCES syncd.pass ON DELETE CASCADE,
    cursor_key       bytea NOT NULL CHECK (length(cursor_key) = 16),
    cursor           jsonb NOT NULL,
    number           int CHECK (number > 0),
    kind             text NOT NULL CHECK (kind IN ('chain', 'item')),
    depth            int NOT NULL CHECK (depth >= 0),
    ordinal          bigint NOT NULL,
    state            text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'failed')),
    empty            boolean NOT NULL DEFAULT false,
    version          bigint,
    attempts         int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    failing_since    timestamptz,
    not_before       timestamptz NOT NULL DEFAULT '-infinity',
    last_error       text,
    PRIMARY KEY (pass_id, cursor_key),
    CONSTRAINT only_items_become_debt CHECK (state <> 'failed' OR kind = 'item'),
    CONSTRAINT only_closed_pages_are_empty CHECK (NOT empty OR state = 'closed'),
    CONSTRAINT failing_has_a_start CHECK ((attempts > 0) = (failing_since IS NOT NULL))
);
-- The order in which a walk reads, in one direction throughout: it goes on behind a place.
CREATE INDEX frontier_next ON syncd.frontier (pass_id, (kind = 'chain'), (-depth), ordinal, cursor_key)
    WHERE state = 'open';
CREATE INDEX frontier_failed ON syncd.frontier (pass_id) WHERE state = 'failed';
COMMENT ON TABLE syncd.frontier IS 'All cursors of a pass and their states: a cursor is walked once per pass, and closed only with its page''s records.';
COMMENT ON COLUMN syncd.frontier.pass_id IS 'The pass.';
COMMENT ON COLUMN syncd.frontier.cursor_key IS 'blake2b-128 of the canonical cursor.';
COMMENT ON COLUMN syncd.frontier.cursor IS 'Where the page is; the plugin''s own, at most 8 KiB.';
COMMENT ON COLUMN syncd.frontier.number IS 'The page number of a numbered feed.';
COMMENT ON COLUMN syncd.frontier.kind IS 'chain (leads on); item (may fail alone).';
COMMENT ON COLUMN syncd.frontier.depth IS 'How many pages led here.';
COMMENT ON COLUMN syncd.frontier.ordinal IS 'Order among cursors of one depth.';
COMMENT ON COLUMN syncd.frontier.state IS 'open; closed (its page''s records are committed); failed (debt that outlives the pass).';
COMMENT ON COLUMN syncd.frontier.empty IS 'A numbered page that held no records: it is opened again if a higher one held some.';
COMMENT ON COLUMN syncd.frontier.version IS 'An item''s version: a higher one opens it again.';
COMMENT ON COLUMN syncd.frontier.attempts IS 'Failures in a row.';
COMMENT ON COLUMN syncd.frontier.failing_since IS 'When the first of them happened.';
COMMENT ON COLUMN syncd.frontier.not_before IS 'Wait until then.';
COMMENT ON COLUMN syncd.frontier.last_error IS 'What the last failure said.';

CREATE TABLE syncd.run (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job                text NOT NULL,
    partition_id       bigint NOT NULL REFERENCES syncd.partition ON DELETE CASCADE,
    pass_id            bigint REFERENCES syncd.pass ON DELETE SET NULL,
    owner              uuid NOT NULL,
    epoch              bigint NOT NULL,
    status             text NOT NULL DEFAULT 'running' CHECK (status IN
                       ('running', 'complete', 'partial', 'waiting', 'drained', 'failed', 'lost')),
    message            text NOT NULL DEFAULT '',
    error_class        text,
    started_at         timestamptz NOT NULL,
    finished_at        timestamptz,
    duration_ms        bigint GENERATED ALWAYS AS
                       ((extract(epoch FROM finished_at - started_at) * 1000)::bigint) STORED,
    requests           bigint NOT NULL DEFAULT 0,
    retries            bigint NOT NULL DEFAULT 0,
    throttled_seconds  double precision NOT NULL DEFAULT 0,
    pages              bigint NOT NULL DEFAULT 0,
    records            bigint NOT NULL DEFAULT 0,
    inserted           bigint NOT NULL DEFAULT 0,
    updated            bigint NOT NULL DEFAULT 0,
    unchanged          bigint NOT NULL DEFAULT 0,
    stale              bigint NOT NULL DEFAULT 0,
    quarantined        bigint NOT NULL DEFAULT 0,
    UNIQUE (partition_id, epoch),
    CONSTRAINT finished_has_a_moment CHECK ((status = 'running') = (finished_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX run_recent ON syncd.run (started_at DESC);
COMMENT ON TABLE syncd.run IS 'History: one lease''s worth of work each.';
COMMENT ON COLUMN syncd.run.id IS 'Its number.';
COMMENT ON COLUMN syncd.run.job IS 'The job it was run for.';
COMMENT ON COLUMN syncd.run.partition_id IS 'The partition.';
COMMENT ON COLUMN syncd.run.pass_id IS 'The pass it walked; empty before one was chosen.';
COMMENT ON COLUMN syncd.run.owner IS 'The daemon.';
COMMENT ON COLUMN syncd.run.epoch IS 'The lease''s epoch: no two runs of a partition share one.';
COMMENT ON COLUMN syncd.run.status IS 'running; complete, partial, failed (as its pass); waiting (only cursors that must wait remain); drained; lost (the lease went to another).';
COMMENT ON COLUMN syncd.run.message IS 'One line for the operator.';
COMMENT ON COLUMN syncd.run.error_class IS 'What it ended with.';
COMMENT ON COLUMN syncd.run.started_at IS 'When it took the lease.';
COMMENT ON COLUMN syncd.run.finished_at IS 'When it gave the lease back.';
COMMENT ON COLUMN syncd.run.duration_ms IS 'In milliseconds.';
COMMENT ON COLUMN syncd.run.requests IS 'Requests sent.';
COMMENT ON COLUMN syncd.run.retries IS 'Of these, sent again.';
COMMENT ON COLUMN syncd.run.throttled_seconds IS 'Time in which the upstream''s limit held requests back.';
COMMENT ON COLUMN syncd.run.pages IS 'Pages committed.';
COMMENT ON COLUMN syncd.run.records IS 'Records of these pages.';
COMMENT ON COLUMN syncd.run.inserted IS 'Rows inserted.';
COMMENT ON COLUMN syncd.run.updated IS 'Rows updated.';
COMMENT ON COLUMN syncd.run.unchanged IS 'Rows that were there already, equal.';
COMMENT ON COLUMN syncd.run.stale IS 'Rows older than what was there.';
COMMENT ON COLUMN syncd.run.quarantined IS 'Records set aside.';

CREATE TABLE syncd.quarantine (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance       text NOT NULL,
    account        text NOT NULL,
    stream         text NOT NULL,
    record_key     bytea NOT NULL CHECK (length(record_key) = 16),
    key            text,
    reason         text NOT NULL CHECK (reason IN ('decode', 'transform', 'key', 'dump', 'refused')),
    message        text NOT NULL,
    raw            bytea,
    raw_bytes      bigint,
    version        bigint,
    pass_id        bigint,
    cursor         text,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    repeats        int NOT NULL DEFAULT 0 CHECK (repeats >= 0),
    UNIQUE (instance, account, stream, record_key)
);
COMMENT ON TABLE syncd.quarantine IS 'Records that could not be stored, with the reason; one row per record, repeats count up.';
COMMENT ON COLUMN syncd.quarantine.id IS 'Its number.';
COMMENT ON COLUMN syncd.quarantine.instance IS 'The instance.';
COMMENT ON COLUMN syncd.quarantine.account IS 'The account.';
COMMENT ON COLUMN syncd.quarantine.stream IS 'The stream.';
COMMENT ON COLUMN syncd.quarantine.record_key IS 'blake2b-128 of the key, or of the bytes where no key could be read.';
COMMENT ON COLUMN syncd.quarantine.key IS 'The key as JSON, where it could be read.';
COMMENT ON COLUMN syncd.quarantine.reason IS 'decode; transform; key (missing or null); dump (cannot be sent); refused (by the table).';
COMMENT ON COLUMN syncd.quarantine.message IS 'What exactly.';
COMMENT ON COLUMN syncd.quarantine.raw IS 'The record as it came, its first 64 KiB.';
COMMENT ON COLUMN syncd.quarantine.raw_bytes IS 'Its whole size.';
COMMENT ON COLUMN syncd.quarantine.version IS 'The version it would have been written with.';
COMMENT ON COLUMN syncd.quarantine.pass_id IS 'The pass that last met it.';
COMMENT ON COLUMN syncd.quarantine.cursor IS 'The page that last held it.';
COMMENT ON COLUMN syncd.quarantine.first_seen_at IS 'When it was first set aside.';
COMMENT ON COLUMN syncd.quarantine.last_seen_at IS 'When it last was.';
COMMENT ON COLUMN syncd.quarantine.repeats IS 'How often it came again.';
