-- Credentials that change by themselves: one row per account, sealed with the keys of the vault. What may be
-- seen of them (when they expire, whether they are taken) stands beside them in plain.

CREATE TABLE syncd.credential (
    instance            text NOT NULL,
    account             text NOT NULL,
    sealed              bytea NOT NULL CHECK (octet_length(sealed) > 0),
    sealed_before       bytea CHECK (octet_length(sealed_before) > 0),
    renewable           boolean NOT NULL,
    access_expires_at   timestamptz,
    refresh_expires_at  timestamptz,
    version             bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    stored_at           timestamptz NOT NULL,
    state               text NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'reauth_required')),
    reason              text,
    refused_at          timestamptz,
    lease_owner         uuid,
    lease_token         uuid,
    lease_until         timestamptz,
    PRIMARY KEY (instance, account),
    FOREIGN KEY (instance, account) REFERENCES syncd.account (instance, name) ON DELETE CASCADE,
    CONSTRAINT a_refusal_has_a_reason CHECK ((state = 'ok') = (reason IS NULL)
                                         AND (state = 'ok') = (refused_at IS NULL)),
    CONSTRAINT a_lease_is_whole CHECK ((lease_token IS NULL) = (lease_until IS NULL)
                                   AND (lease_token IS NULL) = (lease_owner IS NULL)),
    CONSTRAINT only_a_refresh_token_expires CHECK (renewable OR refresh_expires_at IS NULL)
) WITH (fillfactor = 70);  -- renewals stay HOT: they touch no indexed column
COMMENT ON TABLE syncd.credential IS 'Credentials of accounts that are let in by tokens which are renewed. Deleting a row makes its account wait for another: `syncd credentials import`.';
COMMENT ON COLUMN syncd.credential.instance IS 'The instance.';
COMMENT ON COLUMN syncd.credential.account IS 'The account.';
COMMENT ON COLUMN syncd.credential.sealed IS 'The tokens as they are now, with what else the connector needs: sealed with a key of [vault] keys, for this row only.';
COMMENT ON COLUMN syncd.credential.sealed_before IS 'The tokens before them, likewise, until the new ones were let in once.';
COMMENT ON COLUMN syncd.credential.renewable IS 'Whether there is a refresh token.';
COMMENT ON COLUMN syncd.credential.access_expires_at IS 'When the access token expires, where that is known.';
COMMENT ON COLUMN syncd.credential.refresh_expires_at IS 'When the refresh token expires, where that is known.';
COMMENT ON COLUMN syncd.credential.version IS 'Grows with every change of the tokens.';
COMMENT ON COLUMN syncd.credential.stored_at IS 'When they were stored.';
COMMENT ON COLUMN syncd.credential.state IS 'ok; reauth_required (the provider takes the refresh token no more: a person must see to it).';
COMMENT ON COLUMN syncd.credential.reason IS 'What the provider said to that.';
COMMENT ON COLUMN syncd.credential.refused_at IS 'When.';
COMMENT ON COLUMN syncd.credential.lease_owner IS 'The daemon that is renewing them just now.';
COMMENT ON COLUMN syncd.credential.lease_token IS 'Identifies that renewal.';
COMMENT ON COLUMN syncd.credential.lease_until IS 'When another daemon may take it over.';

ALTER TABLE syncd.account ADD COLUMN expiry_told_at timestamptz;
COMMENT ON COLUMN syncd.account.expiry_told_at IS 'When it was last said that its credential is about to expire: once a day.';
