-- Effects: what follows from a row at another system, enqueued in the transaction that writes the row and
-- delivered afterwards, at least once and with the same key each time.

CREATE SEQUENCE syncd.effect_sequence;
COMMENT ON SEQUENCE syncd.effect_sequence IS 'The order in which effects were enqueued.';

CREATE TABLE syncd.effect (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance      text NOT NULL,
    account       text NOT NULL,
    kind          text NOT NULL,
    key           text NOT NULL CHECK (key <> '' AND octet_length(key) <= 1000),
    payload       jsonb NOT NULL,
    source        text NOT NULL,
    row_version   bigint,
    ordering_key  text CHECK (ordering_key <> '' AND octet_length(ordering_key) <= 1000),
    sequence      bigint NOT NULL,
    state         text NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'delivering', 'delivered', 'dead', 'discarded')),
    attempts      int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at        timestamptz,
    claim_epoch   bigint NOT NULL DEFAULT 0 CHECK (claim_epoch >= 0),
    claim_token   uuid,
    claim_owner   uuid,
    last_error    text,
    response      jsonb,
    enqueued_at   timestamptz NOT NULL,
    ended_at      timestamptz,
    UNIQUE (instance, account, kind, key),
    CONSTRAINT what_is_open_is_due CHECK ((state IN ('pending', 'delivering')) = (due_at IS NOT NULL)),
    CONSTRAINT what_is_not_open_has_ended CHECK ((due_at IS NULL) = (ended_at IS NOT NULL)),
    CONSTRAINT a_claim_is_whole CHECK ((state = 'delivering') = (claim_token IS NOT NULL)
                                   AND (state = 'delivering') = (claim_owner IS NOT NULL)),
    CONSTRAINT death_has_a_cause CHECK (state <> 'dead' OR last_error IS NOT NULL)
) WITH (fillfactor = 80);
-- What may be claimed, in its order; and how much is open, by kind.
CREATE INDEX effect_due ON syncd.effect (kind, instance, due_at, id) WHERE state IN ('pending', 'delivering');
-- What is before an effect of the same ordering key, and not done.
CREATE INDEX effect_order ON syncd.effect (instance, account, kind, ordering_key, sequence)
    WHERE ordering_key IS NOT NULL AND state IN ('pending', 'delivering', 'dead');
CREATE INDEX effect_dead ON syncd.effect (kind, ended_at, id) WHERE state = 'dead';
CREATE INDEX effect_ended ON syncd.effect (ended_at) WHERE state IN ('delivered', 'discarded');
COMMENT ON TABLE syncd.effect IS 'Effects: what is to be done at other systems because of rows. Keys are remembered 400 days after the end, so that nothing is done twice.';
COMMENT ON COLUMN syncd.effect.id IS 'Drawn when it is first enqueued.';
COMMENT ON COLUMN syncd.effect.instance IS 'The instance that delivers it.';
COMMENT ON COLUMN syncd.effect.account IS 'The account with which that is done.';
COMMENT ON COLUMN syncd.effect.kind IS 'What is done: a kind that a connector declares.';
COMMENT ON COLUMN syncd.effect.key IS 'Says what is one and the same: of equal kind and key one is delivered.';
COMMENT ON COLUMN syncd.effect.payload IS 'What the delivery needs to know.';
COMMENT ON COLUMN syncd.effect.source IS 'INSTANCE.STREAM of the row that it follows from.';
COMMENT ON COLUMN syncd.effect.row_version IS 'Version of that row; none where a plugin writes its rows itself.';
COMMENT ON COLUMN syncd.effect.ordering_key IS 'Effects of one ordering key are delivered one after the other, where their kind is ordered.';
COMMENT ON COLUMN syncd.effect.sequence IS 'In which order.';
COMMENT ON COLUMN syncd.effect.state IS 'pending; delivering (claimed; when due_at has passed, what became of it is unknown and it is claimed again); delivered; dead (tried too often or too long, or refused for good: waits for an operator); discarded (by an operator).';
COMMENT ON COLUMN syncd.effect.attempts IS 'How often its delivery began, outages of the provider not counted.';
COMMENT ON COLUMN syncd.effect.due_at IS 'Not claimed before: the end of its delay, of a backoff, or of the claim on it.';
COMMENT ON COLUMN syncd.effect.claim_epoch IS 'Grows with every claim.';
COMMENT ON COLUMN syncd.effect.claim_token IS 'Identifies the claim.';
COMMENT ON COLUMN syncd.effect.claim_owner IS 'The daemon that delivers it.';
COMMENT ON COLUMN syncd.effect.last_error IS 'Why it was not delivered the last time.';
COMMENT ON COLUMN syncd.effect.response IS 'What the provider answered to the delivery, as far as the connector keeps it.';
COMMENT ON COLUMN syncd.effect.enqueued_at IS 'When it was enqueued, or re-opened: its age counts from here.';
COMMENT ON COLUMN syncd.effect.ended_at IS 'When it was delivered, died or was discarded.';

ALTER TABLE syncd.partition ADD COLUMN effects text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN syncd.partition.effects IS 'Kinds of effects that its records may produce: not claimed while too many of one are open.';
