-- name: found
-- An account's credential, and whether somebody is renewing it.
SELECT sealed, sealed_before, version, access_expires_at, stored_at, state, reason,
       lease_token, greatest(extract(epoch FROM lease_until - syncd.clock(%(now)s)), 0)::float8 AS lease_seconds
FROM syncd.credential WHERE instance = %(instance)s AND account = %(account)s;

-- name: locked
-- The same, and nobody changes it meanwhile.
SELECT sealed, sealed_before, version, access_expires_at, stored_at, state, reason,
       lease_token, greatest(extract(epoch FROM lease_until - syncd.clock(%(now)s)), 0)::float8 AS lease_seconds
FROM syncd.credential WHERE instance = %(instance)s AND account = %(account)s FOR UPDATE;

-- name: lease
-- Let nobody else renew it for a while.
UPDATE syncd.credential
SET lease_owner = %(owner)s, lease_token = %(token)s,
    lease_until = syncd.clock(%(now)s) + make_interval(secs => %(lease_seconds)s)
WHERE instance = %(instance)s AND account = %(account)s;

-- name: renew
-- Store what a credential was traded for. Not under the lease alone: whoever has got a pair stores it while nobody
-- else has, also where the lease ran out meanwhile, for the pair before may be dead since.
UPDATE syncd.credential
SET sealed_before = CASE WHEN %(of_before)s THEN sealed_before ELSE sealed END, sealed = %(sealed)s,
    renewable = %(renewable)s, access_expires_at = %(access_expires_at)s, refresh_expires_at = %(refresh_expires_at)s,
    version = version + 1, stored_at = syncd.clock(%(now)s), state = 'ok', reason = NULL, refused_at = NULL,
    lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE instance = %(instance)s AND account = %(account)s AND version = %(version)s;

-- name: confirm
-- The new pair was let in: the one before is needed no more.
UPDATE syncd.credential SET sealed_before = NULL
WHERE instance = %(instance)s AND account = %(account)s AND version = %(version)s AND sealed_before IS NOT NULL;

-- name: refuse
-- The provider takes it no more: only another one helps.
UPDATE syncd.credential
SET state = 'reauth_required', reason = %(reason)s, refused_at = syncd.clock(%(now)s),
    lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE instance = %(instance)s AND account = %(account)s AND version = %(version)s AND lease_token = %(token)s;

-- name: release
-- Let others renew it.
UPDATE syncd.credential SET lease_owner = NULL, lease_token = NULL, lease_until = NULL
WHERE instance = %(instance)s AND account = %(account)s AND lease_token = %(token)s;

-- name: known_accounts
-- The accounts that the database knows of an instance.
SELECT name FROM syncd.account WHERE instance = %(instance)s;

-- name: import
-- Store credentials that an operator brings: what is there of these accounts is of no more use.
INSERT INTO syncd.credential (instance, account, sealed, renewable, access_expires_at, refresh_expires_at, stored_at)
SELECT %(instance)s, c.account, c.sealed, c.renewable, c.access_expires_at, c.refresh_expires_at, syncd.clock(%(now)s)
FROM unnest(%(accounts)s::text[], %(sealed)s::bytea[], %(renewable)s::boolean[], %(access_expire_at)s::timestamptz[],
            %(refresh_expire_at)s::timestamptz[])
     AS c (account, sealed, renewable, access_expires_at, refresh_expires_at)
ORDER BY c.account
ON CONFLICT (instance, account) DO UPDATE
SET sealed = excluded.sealed, sealed_before = NULL, renewable = excluded.renewable,
    access_expires_at = excluded.access_expires_at, refresh_expires_at = excluded.refresh_expires_at,
    version = credential.version + 1, stored_at = excluded.stored_at, state = 'ok', reason = NULL, refused_at = NULL,
    lease_owner = NULL, lease_token = NULL, lease_until = NULL;

-- name: let_in
-- Let accounts be claimed again that are parked because their credential was refused, and forget what was said of it.
WITH imported AS (
    UPDATE syncd.account SET expiry_told_at = NULL
    WHERE instance = %(instance)s AND name = ANY (%(accounts)s::text[]) AND expiry_told_at IS NOT NULL AND state = 'ready'
)
UPDATE syncd.account
SET state = 'ready', parked_reason = NULL, parked_at = NULL, try_again_at = NULL, expiry_told_at = NULL
WHERE instance = %(instance)s AND name = ANY (%(accounts)s::text[]) AND state = 'parked' AND try_again_at IS NOT NULL
RETURNING name;

-- name: every
-- All credentials, sealed as they are.
SELECT instance, account, sealed, sealed_before, version, access_expires_at, stored_at, state, reason,
       lease_token, greatest(extract(epoch FROM lease_until - syncd.clock(%(now)s)), 0)::float8 AS lease_seconds
FROM syncd.credential;

-- name: listed
-- What may be seen of credentials.
SELECT c.instance, c.account, c.state, c.reason, c.refused_at, c.renewable, c.access_expires_at, c.refresh_expires_at,
       c.version, c.stored_at, c.sealed_before IS NOT NULL AS unconfirmed, a.state = 'parked' AS parked
FROM syncd.credential c JOIN syncd.account a ON a.instance = c.instance AND a.name = c.account
ORDER BY c.instance, c.account;

-- name: expiring
-- The credentials in the vault that nothing but a person renews in time.
SELECT account, CASE WHEN renewable THEN 'refresh token' ELSE 'access token' END AS what,
       CASE WHEN renewable THEN refresh_expires_at ELSE access_expires_at END AS expires_at
FROM syncd.credential
WHERE instance = %(instance)s AND state = 'ok'
  AND CASE WHEN renewable THEN refresh_expires_at ELSE access_expires_at END
      < syncd.clock(%(now)s) + make_interval(secs => %(within_seconds)s)
ORDER BY account;

-- name: tell
-- Take what is to be said of these accounts, so that nobody says it again today.
UPDATE syncd.account SET expiry_told_at = syncd.clock(%(now)s)
WHERE instance = %(instance)s AND name = ANY (%(accounts)s::text[])
  AND (expiry_told_at IS NULL OR expiry_told_at <= syncd.clock(%(now)s) - make_interval(secs => %(again_seconds)s))
RETURNING name;
