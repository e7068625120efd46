-- What patients agreed to, sealed with the patient's key; and whether a patient's data is restricted (GDPR art. 18).
CREATE TABLE consent (
    shard         int     NOT NULL,
    tenant        text    NOT NULL,
    consent_id    text    NOT NULL,
    patient_id    text    NOT NULL,
    version       int     NOT NULL,
    active        boolean NOT NULL,
    updated_at_ms bigint  NOT NULL,
    body_sealed   bytea   NOT NULL,
    key_version   int     NOT NULL,
    PRIMARY KEY (shard, tenant, consent_id)
);
CREATE INDEX consent_patient ON consent (shard, tenant, patient_id, consent_id);

-- One row a patient of whom there ever was a consent or a restriction. generation grows with each change: processes know
-- by it whether what they opened still counts, and published says which one devices were told.
CREATE TABLE patient_privacy (
    shard            int    NOT NULL,
    tenant           text   NOT NULL,
    patient_id       text   NOT NULL,
    generation       bigint NOT NULL,
    published        bigint NOT NULL DEFAULT 0,
    restricted_at_ms bigint,
    ground           text,
    purposes         text,
    PRIMARY KEY (shard, tenant, patient_id)
);

-- The tenant's policy: what counts where a patient said nothing, and how long what is kept.
CREATE TABLE privacy_policy (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    version       int    NOT NULL,
    updated_at_ms bigint NOT NULL,
    body          text   NOT NULL,
    PRIMARY KEY (shard, tenant)
);
