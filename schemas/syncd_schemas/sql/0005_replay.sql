-- What a record that was set aside needs in order to be made into rows again.

ALTER TABLE syncd.quarantine
    ADD COLUMN parent jsonb CHECK (jsonb_typeof(parent) = 'object'),
    ADD COLUMN sent_at timestamptz;
COMMENT ON COLUMN syncd.quarantine.parent IS 'The values that the record''s surroundings gave it; empty where they cannot be stored, or the record was set aside before they were: it cannot be replayed then.';
COMMENT ON COLUMN syncd.quarantine.sent_at IS 'When the request left that brought it: what its version is reckoned by, where it has none of its own.';
