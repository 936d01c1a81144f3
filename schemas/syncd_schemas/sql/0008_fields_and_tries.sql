-- Which fields of records were met that no record class knows: each is announced once. When an account whose
-- credential was refused is tried again. And slices that tell together which records are gone.

CREATE TABLE syncd.unknown_field (
    instance  text NOT NULL REFERENCES syncd.instance,
    stream    text NOT NULL,
    field     text NOT NULL,
    seen_at   timestamptz NOT NULL,
    PRIMARY KEY (instance, stream, field)
);
COMMENT ON TABLE syncd.unknown_field IS 'Fields that an upstream sends and no record class knows, at most 20 of a stream. Deleting a row lets the field be announced again.';
COMMENT ON COLUMN syncd.unknown_field.instance IS 'The instance.';
COMMENT ON COLUMN syncd.unknown_field.stream IS 'The stream.';
COMMENT ON COLUMN syncd.unknown_field.field IS 'The field''s path in the record; no value of it is kept.';
COMMENT ON COLUMN syncd.unknown_field.seen_at IS 'When it was first met.';

ALTER TABLE syncd.account ADD COLUMN try_again_at timestamptz;
COMMENT ON COLUMN syncd.account.try_again_at IS 'When its credential is tried again, where it was refused and the connector has a check; empty where an operator parked it.';

ALTER TABLE syncd.partition DROP CONSTRAINT partition_covers_check,
    ADD CONSTRAINT partition_covers_check CHECK (covers IN ('all', 'part', 'share'));
COMMENT ON COLUMN syncd.partition.covers IS 'all: a full pass tells which records of the account are gone; share: those of all shares of the feed together do; part: it does not. Empty: as its name says, all without one.';
