-- Every key begins with (shard, tenant), so that a distributed PostgreSQL can place a tenant's rows together and no
-- constraint spans two of them. Columns that end in _sealed are ciphertext (envelope.py); the key that opens them is
-- the patient's, in patient_key, itself wrapped.

CREATE TABLE shard_head (
    shard       int    NOT NULL,
    shard_epoch bigint NOT NULL,
    commit_seq  bigint NOT NULL,
    PRIMARY KEY (shard)
);

CREATE TABLE tenant (
    shard             int    NOT NULL,
    tenant            text   NOT NULL,
    created_at_ms     bigint NOT NULL,
    next_device_alias int    NOT NULL,
    audit_key_wrapped bytea  NOT NULL,
    PRIMARY KEY (shard, tenant)
);

CREATE TABLE patient (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    patient_id    text   NOT NULL,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, patient_id)
);

CREATE TABLE patient_key (
    shard       int   NOT NULL,
    tenant      text  NOT NULL,
    patient_id  text  NOT NULL,
    key_version int   NOT NULL,
    wrapped     bytea NOT NULL,
    PRIMARY KEY (shard, tenant, patient_id, key_version)
);

CREATE TABLE principal (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    principal_id  text   NOT NULL,
    role          text   NOT NULL,
    token_hash    bytea  NOT NULL,
    created_at_ms bigint NOT NULL,
    revoked_at_ms bigint,
    PRIMARY KEY (shard, tenant, principal_id),
    UNIQUE (shard, tenant, token_hash)
);

CREATE TABLE enrolment_code (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    selector      bytea  NOT NULL,
    patient_id    text   NOT NULL,
    secret_hash   bytea  NOT NULL,
    expires_at_ms bigint NOT NULL,
    wrong_tries   int    NOT NULL DEFAULT 0,
    used_by       text,
    PRIMARY KEY (shard, tenant, selector)
);

CREATE TABLE device (
    shard           int    NOT NULL,
    tenant          text   NOT NULL,
    device_id       text   NOT NULL,
    device_alias    int    NOT NULL,
    patient_id      text   NOT NULL,
    public_key      bytea  NOT NULL,
    sync_key_sealed bytea  NOT NULL,
    key_version     int    NOT NULL,
    enrolled_at_ms  bigint NOT NULL,
    revoked_at_ms   bigint,
    PRIMARY KEY (shard, tenant, device_id),
    UNIQUE (shard, tenant, device_alias)
);

CREATE TABLE request_nonce (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    device_alias  int    NOT NULL,
    nonce         text   NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, nonce)
);
CREATE INDEX request_nonce_expiry ON request_nonce (shard, expires_at_ms);

-- row_sum is the row's share of the device's digest: a keyed hash, so that equal rows are found without opening them.
CREATE TABLE result_row (
    shard          int    NOT NULL,
    tenant         text   NOT NULL,
    device_alias   int    NOT NULL,
    epoch          int    NOT NULL,
    counter        int    NOT NULL,
    patient_id     text   NOT NULL,
    row_sealed     bytea  NOT NULL,
    key_version    int    NOT NULL,
    row_sum        bytea  NOT NULL,
    commit_seq     bigint NOT NULL,
    risk_id        uuid   NOT NULL,
    observation_id uuid   NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter)
);
CREATE INDEX result_row_patient ON result_row (shard, tenant, patient_id, device_alias, epoch, counter);
CREATE INDEX result_row_risk ON result_row (shard, tenant, risk_id);
CREATE INDEX result_row_observation ON result_row (shard, tenant, observation_id);

CREATE TABLE result_seal (
    shard         int   NOT NULL,
    tenant        text  NOT NULL,
    device_alias  int   NOT NULL,
    epoch         int   NOT NULL,
    first_counter int   NOT NULL,
    last_counter  int   NOT NULL,
    results_root  bytea NOT NULL,
    segments_root bytea NOT NULL,
    signature     bytea NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch, first_counter, last_counter)
);

CREATE TABLE quarantined_row (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    epoch        int    NOT NULL,
    counter      int    NOT NULL,
    patient_id   text   NOT NULL,
    row_sealed   bytea  NOT NULL,
    key_version  int    NOT NULL,
    reason       int    NOT NULL,
    received_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter)
);

-- origin_* name the device whose own words the row is, unchanged; that device needs no echo of them.
CREATE TABLE annotation (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    epoch        int    NOT NULL,
    counter      int    NOT NULL,
    author       text   NOT NULL,
    patient_id   text   NOT NULL,
    row_sealed   bytea  NOT NULL,
    key_version  int    NOT NULL,
    commit_seq   bigint NOT NULL,
    origin_alias int,
    origin_epoch int,
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter, author)
);
CREATE INDEX annotation_feed ON annotation (shard, tenant, device_alias, commit_seq);

-- Counters up to and with `acknowledged` are stored, quarantined or rejected for good.
CREATE TABLE device_progress (
    shard        int  NOT NULL,
    tenant       text NOT NULL,
    device_alias int  NOT NULL,
    epoch        int  NOT NULL,
    acknowledged int  NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch)
);

CREATE TABLE device_digest (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    count        bigint NOT NULL,
    total        bytea  NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias)
);

CREATE TABLE audit_head (
    shard  int    NOT NULL,
    tenant text   NOT NULL,
    seq    bigint NOT NULL,
    mac    bytea  NOT NULL,
    PRIMARY KEY (shard, tenant)
);

CREATE TABLE audit_entry (
    shard     int    NOT NULL,
    tenant    text   NOT NULL,
    seq       bigint NOT NULL,
    at_ms     bigint NOT NULL,
    actor     text   NOT NULL,
    operation text   NOT NULL,
    patient   text   NOT NULL,
    outcome   text   NOT NULL,
    previous  bytea  NOT NULL,
    mac       bytea  NOT NULL,
    PRIMARY KEY (shard, tenant, seq)
);
