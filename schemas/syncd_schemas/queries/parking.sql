-- name: park_accounts
-- Set accounts aside: none of their partitions is claimed until they are resumed.
UPDATE syncd.account
SET state = 'parked', parked_reason = %(reason)s, parked_at = syncd.clock(%(now)s), try_again_at = NULL
WHERE instance = %(instance)s AND name LIKE %(account)s AND state = 'ready'
RETURNING name;

-- name: park_partitions
-- Set partitions aside: what runs goes on to its run's end, and is not claimed again.
UPDATE syncd.partition
SET state = 'parked', parked_reason = %(reason)s
WHERE instance = %(instance)s AND account LIKE %(account)s AND feed LIKE %(feed)s AND slice LIKE %(slice)s
  AND state = 'ready'
RETURNING instance, account, feed, slice;

-- name: running
-- How many partitions are leased right now, of those that fit.
SELECT count(*) AS leased FROM syncd.partition
WHERE instance = %(instance)s AND account LIKE %(account)s AND feed LIKE %(feed)s AND slice LIKE %(slice)s
  AND lease_until > syncd.clock(%(now)s);

-- name: resume_partitions
-- Let parked partitions of an instance be claimed again, at once.
UPDATE syncd.partition
SET state = 'ready', parked_reason = NULL, failures = 0, failing_since = NULL, failed_passes = 0,
    due_at = syncd.clock(%(now)s),
    claim_at = syncd.clock(%(now)s) - make_interval(secs => priority)
WHERE instance = %(instance)s AND account LIKE %(account)s AND feed LIKE %(feed)s AND slice LIKE %(slice)s
  AND state = 'parked';

-- name: resume_accounts
-- Let the partitions of parked accounts be claimed again.
UPDATE syncd.account SET state = 'ready', parked_reason = NULL, parked_at = NULL, try_again_at = NULL
WHERE instance = %(instance)s AND name LIKE %(account)s AND state = 'parked';

-- name: due_again
-- Take the second tries that are due of accounts whose credential was refused: the next one is another day.
UPDATE syncd.account a SET try_again_at = syncd.clock(%(now)s) + make_interval(secs => w.seconds)
FROM unnest(%(names)s::text[], %(waits)s::float8[]) AS w (name, seconds)
WHERE a.instance = %(instance)s AND a.name = w.name
  AND a.state = 'parked' AND a.try_again_at <= syncd.clock(%(now)s)
RETURNING a.name, a.parked_reason;

-- name: let_in
-- Let an account's partitions be claimed again, unless somebody has parked or resumed it meanwhile.
UPDATE syncd.account SET state = 'ready', parked_reason = NULL, parked_at = NULL, try_again_at = NULL
WHERE instance = %(instance)s AND name = %(account)s
  AND state = 'parked' AND parked_reason = %(reason)s AND try_again_at IS NOT NULL;

-- name: still_parked
-- The accounts that keep partitions from being claimed, of those that fit.
SELECT name FROM syncd.account
WHERE instance = %(instance)s AND name LIKE %(account)s AND state = 'parked' ORDER BY name;
