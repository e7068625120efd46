-- Nobody has a static secret any more: principals are known by public keys, and get access tokens that live for minutes.
-- What was kept of the former tokens goes, so none of them is good after this.
ALTER TABLE principal DROP COLUMN token_hash;
ALTER TABLE principal ADD COLUMN IF NOT EXISTS patient_id text;
-- Public keys (RFC 7517), inline.
ALTER TABLE principal ADD COLUMN jwks text NOT NULL DEFAULT '{"keys":[]}';
-- Counts replacements of the keys; a token of another count is refused.
ALTER TABLE principal ADD COLUMN key_version int NOT NULL DEFAULT 1;
-- Whether its tokens need no proof of a key (standard clients of SMART Backend Services).
ALTER TABLE principal ADD COLUMN bearer boolean NOT NULL DEFAULT false;
ALTER TABLE principal ADD COLUMN scopes text NOT NULL DEFAULT '';

-- The keys that sign access tokens, wrapped by the key service.
CREATE TABLE signing_key (
    shard           int    NOT NULL,
    tenant          text   NOT NULL,
    kid             text   NOT NULL,
    public_key      bytea  NOT NULL,
    private_wrapped bytea  NOT NULL,
    signs_from_ms   bigint NOT NULL,
    PRIMARY KEY (shard, tenant, kid)
);

-- Ids that were used; see replays.py.
CREATE TABLE token_jti (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    jti_hash      bytea  NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, jti_hash)
);
CREATE INDEX token_jti_expires ON token_jti (shard, tenant, expires_at_ms);
