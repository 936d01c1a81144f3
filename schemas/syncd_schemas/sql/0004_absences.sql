-- Which records passes were handed, so that rows of those that are gone upstream can be told; and by what a
-- record in quarantine is known whose bytes are not kept.

-- Unlogged: it is written as fast as the rows themselves. A crash of PostgreSQL empties it, sentinels and
-- all, and a pass without its sentinel judges nobody. No index is unique: writers never wait here.
CREATE UNLOGGED TABLE syncd.seen (
    partition_id  bigint NOT NULL,
    pass_id       bigint NOT NULL,
    stream        text NOT NULL,
    key           bigint
);
CREATE INDEX seen_of_pass ON syncd.seen (partition_id, pass_id, stream) WHERE key IS NOT NULL;
CREATE UNIQUE INDEX seen_sentinel ON syncd.seen (partition_id, pass_id, stream) WHERE key IS NULL;
COMMENT ON TABLE syncd.seen IS 'Keys of the records that passes were handed, for streams with on_absent. Emptying it is safe: nobody is judged by what is left.';
COMMENT ON COLUMN syncd.seen.partition_id IS 'The partition.';
COMMENT ON COLUMN syncd.seen.pass_id IS 'The pass.';
COMMENT ON COLUMN syncd.seen.stream IS 'The stream.';
COMMENT ON COLUMN syncd.seen.key IS 'hash_record_extended() of the record''s key; empty: the sentinel, which says that no key of this pass is missing here.';

ALTER TABLE syncd.quarantine ADD COLUMN raw_hash bytea CHECK (length(raw_hash) = 16);
COMMENT ON COLUMN syncd.quarantine.raw IS 'The record as it came, its first 64 KiB, without what its stream redacts; empty where that could not be told.';
COMMENT ON COLUMN syncd.quarantine.raw_hash IS 'blake2b-128 of the record as it came.';

ALTER TABLE syncd.partition ADD COLUMN covers text CHECK (covers IN ('all', 'part'));
COMMENT ON COLUMN syncd.partition.covers IS 'all: a full pass tells which records of the account are gone; part: it does not. Empty: as its name says, all without one.';
