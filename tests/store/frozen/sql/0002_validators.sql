-- What upstreams know committed pages by, so that a full pass asks only for what has changed.

CREATE TABLE syncd.validator (
    partition_id   bigint NOT NULL REFERENCES syncd.partition ON DELETE CASCADE,
    cursor_key     bytea NOT NULL CHECK (length(cursor_key) = 16),
    request_key    bytea NOT NULL CHECK (length(request_key) = 16),
    etag           text CHECK (octet_length(etag) BETWEEN 2 AND 1024),
    last_modified  text CHECK (octet_length(last_modified) BETWEEN 1 AND 1024),
    fingerprint    text NOT NULL CHECK (fingerprint <> ''),
    opens          json NOT NULL CHECK (json_typeof(opens) = 'array'),  -- jsonb would change numbers, and so keys
    page_end       boolean NOT NULL,
    page_dated     boolean NOT NULL,
    total          bigint CHECK (total >= 0),
    records        jsonb NOT NULL CHECK (jsonb_typeof(records) = 'object'),
    pass_id        bigint NOT NULL,
    PRIMARY KEY (partition_id, cursor_key),
    CONSTRAINT it_validates_by_something CHECK (etag IS NOT NULL OR last_modified IS NOT NULL)
) WITH (fillfactor = 80);  -- confirmations stay HOT: they touch no indexed column
COMMENT ON TABLE syncd.validator IS 'Pages whose rows are committed, with what their upstream knows them by: a 304 closes the cursor as unchanged. Deleting rows is safe: those pages are fetched whole.';
COMMENT ON COLUMN syncd.validator.partition_id IS 'The partition.';
COMMENT ON COLUMN syncd.validator.cursor_key IS 'The page''s cursor, as in the frontier.';
COMMENT ON COLUMN syncd.validator.request_key IS 'blake2b-128 of the one request that the page was made of; never the address, which may hold a secret.';
COMMENT ON COLUMN syncd.validator.etag IS 'ETag of the answer (RFC 9110 8.8.3), sent back in If-None-Match.';
COMMENT ON COLUMN syncd.validator.last_modified IS 'Last-Modified of the answer (RFC 9110 8.8.2), sent back in If-Modified-Since.';
COMMENT ON COLUMN syncd.validator.fingerprint IS 'How and into which tables the rows were made, and the request: where it differs, the validator is not sent.';
COMMENT ON COLUMN syncd.validator.opens IS 'The cursors that the page named: [value, number, kind, version] each.';
COMMENT ON COLUMN syncd.validator.page_end IS 'The page bore the upstream''s end marker.';
COMMENT ON COLUMN syncd.validator.page_dated IS 'The page told the upstream''s clock.';
COMMENT ON COLUMN syncd.validator.total IS 'The total that the page told.';
COMMENT ON COLUMN syncd.validator.records IS 'How many records the page held, by stream.';
COMMENT ON COLUMN syncd.validator.pass_id IS 'The pass that wrote or last confirmed it; passes may be forgotten, so this is no reference.';
