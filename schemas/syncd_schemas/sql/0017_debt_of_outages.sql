-- Which failed items are no fault of their own: a night without an API that is asked about each of them makes
-- debt of all, and no operator should have to resume their partition for that.

ALTER TABLE syncd.frontier ADD COLUMN outage boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN syncd.frontier.outage IS 'The last failure was an outage, of the upstream or of another API: it is not held against the partition.';
