-- Rotation, online. wrapping_round: in which round of `keys rotate` a key was last wrapped; a new one is wrapped once more
-- than it needs. rotation_round: in which round of `keys rotate-patient --all` a version was made.
-- seals: a version that does not seal yet was announced only, so that every process can open what it will seal.
ALTER TABLE tenant ADD COLUMN wrapping_round int NOT NULL DEFAULT 0;
ALTER TABLE tenant ADD COLUMN key_generation bigint NOT NULL DEFAULT 0;
ALTER TABLE signing_key ADD COLUMN wrapping_round int NOT NULL DEFAULT 0;
ALTER TABLE patient_key ADD COLUMN wrapping_round int NOT NULL DEFAULT 0;
ALTER TABLE patient_key ADD COLUMN rotation_round int NOT NULL DEFAULT 0;
ALTER TABLE patient_key ADD COLUMN seals boolean NOT NULL DEFAULT true;

-- The last change of a patient's keys, counted by the tenant's key_generation: what processes look at to forget theirs.
CREATE TABLE patient_key_change (
    shard      int    NOT NULL,
    tenant     text   NOT NULL,
    patient_id text   NOT NULL,
    generation bigint NOT NULL,
    PRIMARY KEY (shard, tenant, patient_id)
);
CREATE INDEX patient_key_change_feed ON patient_key_change (shard, tenant, generation);

-- kind: 'wrapping' or 'patients'. A round that is not finished is gone on with.
CREATE TABLE key_rotation (
    shard    int     NOT NULL,
    tenant   text    NOT NULL,
    kind     text    NOT NULL,
    round    int     NOT NULL,
    finished boolean NOT NULL,
    PRIMARY KEY (shard, tenant, kind)
);
