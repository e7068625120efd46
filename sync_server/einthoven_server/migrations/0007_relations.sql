-- How principals stand to patients: members of a care team, and accesses in an emergency. A patient's own principal is
-- the one that names the patient.

ALTER TABLE principal ADD COLUMN IF NOT EXISTS patient_id text;

CREATE TABLE care_team (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    patient_id   text   NOT NULL,
    principal_id text   NOT NULL,
    since_ms     bigint NOT NULL,
    PRIMARY KEY (shard, tenant, patient_id, principal_id)
);
CREATE INDEX care_team_principal ON care_team (shard, tenant, principal_id, patient_id);

-- Kept after they expire: an administrator reviews each of them. text_sealed is under the patient's key.
CREATE TABLE break_glass (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    access_id     text   NOT NULL,
    patient_id    text   NOT NULL,
    principal_id  text   NOT NULL,
    reason        text   NOT NULL,
    text_sealed   bytea  NOT NULL,
    key_version   int    NOT NULL,
    opened_at_ms  bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, access_id)
);
CREATE INDEX break_glass_open ON break_glass (shard, tenant, principal_id, patient_id, expires_at_ms);
CREATE INDEX break_glass_newest ON break_glass (shard, tenant, opened_at_ms, access_id);
CREATE INDEX break_glass_patient ON break_glass (shard, tenant, patient_id, opened_at_ms, access_id);
