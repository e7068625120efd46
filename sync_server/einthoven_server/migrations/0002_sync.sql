-- What a patient's devices share: notes, losers of conflicts, tombstones, documents; a digest for every bucket; and how
-- far each device has read. Everything that is fed has an index (shard, tenant, patient_id, commit_seq), so that a feed
-- is one index scan a table, however many patients and devices there are.

-- A FHIR id is computed from a result's identity, and back: it needs no column and no index.
DROP INDEX result_row_risk;
DROP INDEX result_row_observation;
ALTER TABLE result_row DROP COLUMN risk_id;
ALTER TABLE result_row DROP COLUMN observation_id;
DROP INDEX result_row_patient;
CREATE INDEX result_row_feed ON result_row (shard, tenant, patient_id, commit_seq);

CREATE INDEX device_patient ON device (shard, tenant, patient_id, device_alias);

-- row_sum is the row's share of its bucket's digest; rows of before have none, theirs is computed when it is needed.
ALTER TABLE annotation ADD COLUMN row_sum bytea;
DROP INDEX annotation_feed;
CREATE INDEX annotation_feed ON annotation (shard, tenant, patient_id, commit_seq);

-- Notes have a log of their own in every epoch of a device.
ALTER TABLE device_progress ADD COLUMN notes_acknowledged int NOT NULL DEFAULT 0;

-- device_alias 0 is the server; row_sum is then empty, because every reader sums under its own key.
CREATE TABLE note (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    epoch        bigint NOT NULL,
    counter      int    NOT NULL,
    patient_id   text   NOT NULL,
    row_sealed   bytea  NOT NULL,
    key_version  int    NOT NULL,
    row_sum      bytea  NOT NULL,
    commit_seq   bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter)
);
CREATE INDEX note_feed ON note (shard, tenant, patient_id, commit_seq);

-- Registers that were overtaken. Those of a conflict have a commit_seq and are shown; with 0 they are history only.
-- row_sum is keyed, so that equal values are found without opening them.
CREATE TABLE superseded_write (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    epoch        int    NOT NULL,
    counter      int    NOT NULL,
    author       text   NOT NULL,
    field        int    NOT NULL,
    hlc          bigint NOT NULL,
    row_sum      bytea  NOT NULL,
    patient_id   text   NOT NULL,
    row_sealed   bytea  NOT NULL,
    key_version  int    NOT NULL,
    commit_seq   bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter, author, field, hlc, row_sum)
);
CREATE INDEX superseded_write_feed ON superseded_write (shard, tenant, patient_id, commit_seq);

-- hlc: of an annotation, the latest time of the words that went; what is not later does not come back. A collected one
-- is in no feed any more, and stays as the name of what must not come back.
CREATE TABLE tombstone (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    kind          int    NOT NULL,
    device_alias  int    NOT NULL,
    epoch         bigint NOT NULL,
    counter       int    NOT NULL,
    author        text   NOT NULL,
    patient_id    text   NOT NULL,
    hlc           bigint NOT NULL,
    commit_seq    bigint NOT NULL,
    deleted_at_ms bigint NOT NULL,
    collected     boolean NOT NULL,
    PRIMARY KEY (shard, tenant, kind, device_alias, epoch, counter, author)
);
CREATE INDEX tombstone_feed ON tombstone (shard, tenant, patient_id, commit_seq) WHERE NOT collected;

-- patient_id '' is for all of the tenant: its body is no patient's, and lies as it is; any other is sealed.
CREATE TABLE document (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    patient_id   text   NOT NULL,
    name         text   NOT NULL,
    version      int    NOT NULL,
    issued_at_ms bigint NOT NULL,
    body         bytea  NOT NULL,
    key_version  int    NOT NULL,
    signature    bytea  NOT NULL,
    commit_seq   bigint NOT NULL,
    PRIMARY KEY (shard, tenant, patient_id, name)
);
CREATE INDEX document_feed ON document (shard, tenant, patient_id, commit_seq);

-- One for each owner and kind of rows; what was device_digest is kind 1.
CREATE TABLE bucket_digest (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    kind         int    NOT NULL,
    count        bigint NOT NULL,
    total        bytea  NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, kind)
);
INSERT INTO bucket_digest SELECT shard, tenant, device_alias, 1, count, total FROM device_digest;
DROP TABLE device_digest;

-- Tombstones of the patient up to collected_seq may be in no feed any more.
CREATE TABLE patient_horizon (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    patient_id    text   NOT NULL,
    collected_seq bigint NOT NULL,
    PRIMARY KEY (shard, tenant, patient_id)
);

-- How far a device has read, as it said itself.
CREATE TABLE device_cursor (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    shard_epoch  bigint NOT NULL,
    commit_seq   bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias)
);
