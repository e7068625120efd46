-- Wrapped data keys and blind indexes leave the database for the vault (ADR 29): the next start moves what is in the two
-- tables that are set aside here, and drops them. What stays says which versions of a patient's key there are.
ALTER TABLE patient_key RENAME TO patient_key_former;
ALTER INDEX patient_key_pkey RENAME TO patient_key_former_pkey;
CREATE TABLE patient_key (
    shard          int     NOT NULL,
    tenant         text    NOT NULL,
    patient_id     text    NOT NULL,
    key_version    int     NOT NULL,
    rotation_round int     NOT NULL DEFAULT 0,
    seals          boolean NOT NULL DEFAULT true,
    PRIMARY KEY (shard, tenant, patient_id, key_version)
);
INSERT INTO patient_key
SELECT shard, tenant, patient_id, key_version, rotation_round, seals FROM patient_key_former;
ALTER TABLE patient_blind_index RENAME TO patient_blind_index_former;
-- Which vault goes with this database.
ALTER TABLE tenant ADD COLUMN vault_mark text;

-- Whom was erased, and whether everything is gone yet. It stays, so that a patient is not taken for a mistake.
CREATE TABLE erasure (
    shard          int    NOT NULL,
    tenant         text   NOT NULL,
    patient_id     text   NOT NULL,
    begun_at_ms    bigint NOT NULL,
    finished_at_ms bigint,
    PRIMARY KEY (shard, tenant, patient_id)
);
CREATE INDEX erasure_unfinished ON erasure (shard, tenant) WHERE finished_at_ms IS NULL;

-- Where backups, and with them mirrors of the vault, lie: an erased patient's key goes there, too.
CREATE TABLE backup_place (
    shard  int  NOT NULL,
    tenant text NOT NULL,
    url    text NOT NULL,
    PRIMARY KEY (shard, tenant, url)
);
