-- What upstreams told by themselves (webhooks): an event that is repeated until it is heard is written once.

CREATE TABLE syncd.event (
    instance     text NOT NULL REFERENCES syncd.instance (name) ON DELETE CASCADE,
    event_id     text NOT NULL CHECK (octet_length(event_id) BETWEEN 1 AND 1024),
    received_at  timestamptz NOT NULL,
    PRIMARY KEY (instance, event_id)
);
CREATE INDEX event_received_at ON syncd.event (received_at);  -- to forget by
COMMENT ON TABLE syncd.event IS 'Events that were received and committed, for 30 days. Deleting a row is safe: a repetition of that event is then written again, by the version it has.';
COMMENT ON COLUMN syncd.event.instance IS 'The instance whose route received it.';
COMMENT ON COLUMN syncd.event.event_id IS 'What the sender calls it; of a very long one a hash.';
COMMENT ON COLUMN syncd.event.received_at IS 'When it came first.';
