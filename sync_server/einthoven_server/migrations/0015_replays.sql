-- Results that were recomputed from their signals, and what was found: names of fields that differ, no values.
CREATE TABLE result_replay (
    shard          int    NOT NULL,
    tenant         text   NOT NULL,
    device_alias   int    NOT NULL,
    epoch          int    NOT NULL,
    counter        int    NOT NULL,
    patient_id     text   NOT NULL,
    outcome        text   NOT NULL,
    differing      text[] NOT NULL,
    model_digest   bytea  NOT NULL,
    replayed_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter)
);
CREATE INDEX result_replay_patient ON result_replay (shard, tenant, patient_id);
CREATE INDEX result_replay_outcome ON result_replay (shard, tenant, outcome, replayed_at_ms, device_alias, epoch, counter);

-- How far chunks were looked at, by when they were stored; chunk breaks ties.
CREATE TABLE replay_progress (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    stored_at_ms bigint NOT NULL,
    device_alias int    NOT NULL,
    chunk        bytea  NOT NULL,
    PRIMARY KEY (shard, tenant)
);
CREATE INDEX signal_chunk_stored ON signal_chunk (shard, tenant, stored_at_ms, device_alias, chunk);
CREATE INDEX result_signal_chunk ON result_signal (shard, tenant, device_alias, chunk);
