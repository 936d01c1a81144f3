-- A round's beginning is reserved: its look-ups cost time and requests, and one daemon's are enough.
ALTER TABLE syncd.job ADD COLUMN begins_until timestamptz;
COMMENT ON COLUMN syncd.job.begins_until IS 'Until then a daemon has reserved the beginning of a round.';
