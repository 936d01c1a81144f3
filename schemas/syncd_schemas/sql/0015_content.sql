-- What records an awaiting transform was done with, so that an unchanged one is not asked about again.

CREATE TABLE syncd.content (
    instance     text NOT NULL REFERENCES syncd.instance,
    account      text NOT NULL,
    stream       text NOT NULL,
    record_key   bytea NOT NULL CHECK (length(record_key) = 16),
    content_key  bytea NOT NULL CHECK (length(content_key) = 16),
    rows         integer NOT NULL CHECK (rows >= 0),
    answered_at  timestamptz NOT NULL,
    PRIMARY KEY (instance, account, stream, record_key)
);
COMMENT ON TABLE syncd.content IS 'Records that an awaiting transform was done with, each as it last was: while it stays so it is not handed over again. Deleting rows is safe: those records are asked about once more.';
COMMENT ON COLUMN syncd.content.instance IS 'The instance.';
COMMENT ON COLUMN syncd.content.account IS 'The account; empty where the stream''s rows are not per account.';
COMMENT ON COLUMN syncd.content.stream IS 'The stream.';
COMMENT ON COLUMN syncd.content.record_key IS 'blake2b-128 of the record''s key, as it is handed over.';
COMMENT ON COLUMN syncd.content.content_key IS 'blake2b-128 of the record as it was handed over, and of how rows are made of it (the row fingerprint: transforms with version and settings, columns).';
COMMENT ON COLUMN syncd.content.rows IS 'How many rows were made of it; 0 where it was dropped or set aside.';
COMMENT ON COLUMN syncd.content.answered_at IS 'When the request left that brought the record: what came later counts.';
