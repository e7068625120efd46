-- People who log in here: accounts, invitations to set them up, recovery codes, sessions, and wrong tries.
-- Columns named _ciphertext are under the tenant's key `accounts`, which the key service wraps, bound to their row. A name
-- is found by its HMAC under that key.
CREATE TABLE account (
    shard               int    NOT NULL,
    tenant              text   NOT NULL,
    principal_id        text   NOT NULL,
    name_index          bytea  NOT NULL,
    name_ciphertext     bytea  NOT NULL,
    password_ciphertext bytea,
    totp_ciphertext     bytea,
    -- The last step of time whose code was used: each counts once.
    totp_step           bigint NOT NULL DEFAULT 0,
    created_at_ms       bigint NOT NULL,
    PRIMARY KEY (shard, tenant, principal_id)
);
CREATE UNIQUE INDEX account_name ON account (shard, tenant, name_index);

-- One an account, gone once it is used. totp_ciphertext is what was shown to whoever opened it.
CREATE TABLE account_invitation (
    shard           int    NOT NULL,
    tenant          text   NOT NULL,
    principal_id    text   NOT NULL,
    selector        bytea  NOT NULL,
    verifier_hash   bytea  NOT NULL,
    expires_at_ms   bigint NOT NULL,
    totp_ciphertext bytea,
    PRIMARY KEY (shard, tenant, principal_id)
);
CREATE UNIQUE INDEX account_invitation_selector ON account_invitation (shard, tenant, selector);
CREATE INDEX account_invitation_expires ON account_invitation (shard, tenant, expires_at_ms);

-- Gone once it is used.
CREATE TABLE account_recovery_code (
    shard        int   NOT NULL,
    tenant       text  NOT NULL,
    principal_id text  NOT NULL,
    code_hash    bytea NOT NULL,
    PRIMARY KEY (shard, tenant, principal_id, code_hash)
);

-- Counted for whatever name was tried, so that nothing shows which names there are.
CREATE TABLE login_try (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    name_index    bytea  NOT NULL,
    tries         int    NOT NULL,
    not_before_ms bigint NOT NULL,
    last_ms       bigint NOT NULL,
    PRIMARY KEY (shard, tenant, name_index)
);
CREATE INDEX login_try_last ON login_try (shard, tenant, last_ms);

-- Gone once it is over. holder_version is the principal's key_version when it began: a session of another one is over.
CREATE TABLE login_session (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    session_id    text   NOT NULL,
    principal_id  text   NOT NULL,
    holder_version int   NOT NULL,
    selector      bytea  NOT NULL,
    verifier_hash bytea  NOT NULL,
    jkt           text   NOT NULL,
    began_at_ms   bigint NOT NULL,
    used_at_ms    bigint NOT NULL,
    PRIMARY KEY (shard, tenant, session_id)
);
CREATE UNIQUE INDEX login_session_selector ON login_session (shard, tenant, selector);
CREATE INDEX login_session_principal ON login_session (shard, tenant, principal_id, used_at_ms);
CREATE INDEX login_session_used ON login_session (shard, tenant, used_at_ms);

CREATE TABLE account_passkey (
    shard                 int    NOT NULL,
    tenant                text   NOT NULL,
    credential_id         bytea  NOT NULL,
    principal_id          text   NOT NULL,
    public_key_ciphertext bytea  NOT NULL,
    sign_count            bigint NOT NULL,
    created_at_ms         bigint NOT NULL,
    PRIMARY KEY (shard, tenant, credential_id)
);
CREATE INDEX account_passkey_principal ON account_passkey (shard, tenant, principal_id);
