-- name: revision
-- How often the table's accounts of an instance have changed.
SELECT accounts_revision FROM syncd.instance WHERE name = %(instance)s;

-- name: lock
-- One at a time changes the accounts of an instance.
SELECT accounts_revision FROM syncd.instance WHERE name = %(instance)s FOR NO KEY UPDATE;

-- name: kept
-- The accounts that the table says, enabled or not.
SELECT name, enabled, settings, secrets, state, parked_reason, changed_at
FROM syncd.account WHERE instance = %(instance)s AND origin = 'table' ORDER BY name;

-- name: put
-- Add accounts, or change them. One that is disabled stays so; one whose credential was refused goes on with the
-- new one; one that an operator has parked stays parked.
INSERT INTO syncd.account (instance, name, origin, settings, secrets, changed_at)
SELECT %(instance)s, g.name, 'table', g.settings::jsonb, g.secrets, syncd.clock(%(now)s)
FROM unnest(%(names)s::text[], %(settings)s::text[], %(secrets)s::bytea[]) AS g (name, settings, secrets)
ORDER BY g.name
ON CONFLICT (instance, name) DO UPDATE
SET origin = 'table', settings = excluded.settings, secrets = excluded.secrets, changed_at = excluded.changed_at,
    enabled = account.enabled OR account.origin = 'configuration',
    state = CASE WHEN account.try_again_at IS NULL THEN account.state ELSE 'ready' END,
    parked_reason = CASE WHEN account.try_again_at IS NULL THEN account.parked_reason END,
    parked_at = CASE WHEN account.try_again_at IS NULL THEN account.parked_at END,
    try_again_at = NULL;

-- name: enable
-- Let accounts of the table be worked on, or no more.
UPDATE syncd.account SET enabled = %(enabled)s, changed_at = syncd.clock(%(now)s)
WHERE instance = %(instance)s AND origin = 'table' AND name = ANY (%(names)s::text[]) AND enabled <> %(enabled)s
RETURNING name;

-- name: remove
-- Forget what the table says of accounts, secrets and all. Their rows stay: partitions and history refer to them.
UPDATE syncd.account
SET origin = 'configuration', enabled = false, settings = NULL, secrets = NULL, changed_at = syncd.clock(%(now)s),
    state = 'ready', parked_reason = NULL, parked_at = NULL, try_again_at = NULL
WHERE instance = %(instance)s AND origin = 'table' AND name = ANY (%(names)s::text[])
RETURNING name;

-- name: forgo_turns
-- Accounts that are worked on no more have no turn in a round: it does not wait for them.
DELETE FROM syncd.turn t USING syncd.partition p
WHERE p.id = t.partition_id AND t.verdict IS NULL
  AND p.instance = %(instance)s AND p.account = ANY (%(names)s::text[]);

-- name: let_go
-- And nobody claims their partitions.
UPDATE syncd.partition SET job = NULL
WHERE instance = %(instance)s AND account = ANY (%(names)s::text[]) AND job IS NOT NULL AND token IS NULL;

-- name: changed
-- Tell every daemon, once this transaction is committed.
UPDATE syncd.instance SET accounts_revision = accounts_revision + 1 WHERE name = %(instance)s;

-- name: parked
-- The accounts of an instance that are parked, wherever they come from.
SELECT name, parked_reason FROM syncd.account WHERE instance = %(instance)s AND state = 'parked';
