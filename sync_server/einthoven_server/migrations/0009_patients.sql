-- Who patients are: sealed with the patient's data key, and found by blind indexes (HMAC under a key of the tenant's).
-- A patient without a row here is known by its opaque id alone.
CREATE TABLE patient_demographics (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    patient_id    text   NOT NULL,
    version       int    NOT NULL,
    updated_at_ms bigint NOT NULL,
    body_sealed   bytea  NOT NULL,
    key_version   int    NOT NULL,
    PRIMARY KEY (shard, tenant, patient_id)
);

-- `name` says what was hashed (identifier, family, given, birthdate), `hashed` is 16 bytes.
CREATE TABLE patient_blind_index (
    shard      int   NOT NULL,
    tenant     text  NOT NULL,
    name       text  NOT NULL,
    hashed     bytea NOT NULL,
    patient_id text  NOT NULL,
    PRIMARY KEY (shard, tenant, name, hashed, patient_id)
);
CREATE INDEX patient_blind_index_patient ON patient_blind_index (shard, tenant, patient_id);

-- Keys of the tenant's own, wrapped by the key service.
CREATE TABLE tenant_key (
    shard       int   NOT NULL,
    tenant      text  NOT NULL,
    name        text  NOT NULL,
    key_version int   NOT NULL,
    wrapped     bytea NOT NULL,
    wrapping_round int NOT NULL DEFAULT 0,
    PRIMARY KEY (shard, tenant, name, key_version)
);

-- Bulk exports: what was asked, by whom, and up to which commit. Files are made when they are fetched; none is stored.
CREATE TABLE fhir_export (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    export_id     text   NOT NULL,
    principal_id  text   NOT NULL,
    kinds         text   NOT NULL,
    request_url   text   NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, export_id)
);
CREATE INDEX fhir_export_expiry ON fhir_export (shard, tenant, expires_at_ms);
