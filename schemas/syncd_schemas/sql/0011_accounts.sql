-- Accounts by the hundreds: an account comes from the configuration, or from its row here.

ALTER TABLE syncd.account
    ADD COLUMN origin text NOT NULL DEFAULT 'configuration' CHECK (origin IN ('configuration', 'table')),
    ADD COLUMN enabled boolean NOT NULL DEFAULT true,
    ADD COLUMN settings jsonb CHECK (jsonb_typeof(settings) = 'object'),
    ADD COLUMN secrets bytea CHECK (secrets <> ''),
    ADD COLUMN changed_at timestamptz,
    ADD CONSTRAINT the_table_says_all_of_its_own CHECK ((origin = 'table') = (settings IS NOT NULL)),
    ADD CONSTRAINT secrets_belong_to_settings CHECK (secrets IS NULL OR settings IS NOT NULL),
    ADD CONSTRAINT own_names_are_names CHECK (origin <> 'table' OR name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    ADD CONSTRAINT own_changes_have_a_moment CHECK (origin <> 'table' OR changed_at IS NOT NULL);
-- As in the configuration, no two names differ in their case alone.
CREATE UNIQUE INDEX account_of_the_table ON syncd.account (instance, lower(name)) WHERE origin = 'table';
COMMENT ON COLUMN syncd.account.origin IS 'configuration ([[connectors.NAME.accounts]]; also one that is in neither any more); table (`syncd accounts`: this row says all of it). The configuration wins on the same name.';
COMMENT ON COLUMN syncd.account.enabled IS 'Whether an account of the table is worked on. False, and origin configuration: it was removed from the table.';
COMMENT ON COLUMN syncd.account.settings IS 'Of an account of the table: its settings by key, as they would stand in the configuration, without the secret ones.';
COMMENT ON COLUMN syncd.account.secrets IS 'Of an account of the table: its secret settings, one JSON object sealed by the vault for the owner ''account INSTANCE/NAME''. Empty: it has none.';
COMMENT ON COLUMN syncd.account.changed_at IS 'When its row was last added, changed, enabled, disabled or removed by hand.';

ALTER TABLE syncd.instance
    ADD COLUMN accounts_revision bigint NOT NULL DEFAULT 0 CHECK (accounts_revision >= 0);
COMMENT ON COLUMN syncd.instance.accounts_revision IS 'Grows with every change of the accounts that its table rows say, in the same transaction: daemons read those anew when it differs from what they know.';
