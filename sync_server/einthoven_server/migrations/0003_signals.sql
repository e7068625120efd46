-- Raw signals: chunks lie in the object store, sealed with the patient's data key; here is what is in them and where.
-- What of an upload arrived before it is whole lies here too, sealed likewise, so that its offset and its bytes are
-- one transaction.

CREATE TABLE signal_upload (
    shard         int    NOT NULL,
    tenant        text   NOT NULL,
    upload_id     text   NOT NULL,
    device_alias  int    NOT NULL,
    patient_id    text   NOT NULL,
    chunk         bytea  NOT NULL,
    length        int    NOT NULL,
    received      int    NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, upload_id),
    UNIQUE (shard, tenant, device_alias, chunk)
);
CREATE INDEX signal_upload_expiry ON signal_upload (shard, tenant, expires_at_ms);

CREATE TABLE signal_upload_piece (
    shard        int   NOT NULL,
    tenant       text  NOT NULL,
    upload_id    text  NOT NULL,
    first_byte   int   NOT NULL,
    piece_sealed bytea NOT NULL,
    key_version  int   NOT NULL,
    PRIMARY KEY (shard, tenant, upload_id, first_byte)
);

CREATE TABLE signal_chunk (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    chunk        bytea  NOT NULL,
    patient_id   text   NOT NULL,
    length       int    NOT NULL,
    key_version  int    NOT NULL,
    stored_at_ms bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, chunk)
);
CREATE INDEX signal_chunk_patient ON signal_chunk (shard, tenant, patient_id);

CREATE TABLE result_signal (
    shard          int   NOT NULL,
    tenant         text  NOT NULL,
    device_alias   int   NOT NULL,
    epoch          int   NOT NULL,
    counter        int   NOT NULL,
    patient_id     text  NOT NULL,
    segment_digest bytea NOT NULL,
    chunk          bytea NOT NULL,
    first_byte     int   NOT NULL,
    n_bytes        int   NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias, epoch, counter)
);
CREATE INDEX result_signal_patient ON result_signal (shard, tenant, patient_id);

-- Bytes of chunks that a device stored on `day` (days since 1970), and ever.
CREATE TABLE signal_usage (
    shard        int    NOT NULL,
    tenant       text   NOT NULL,
    device_alias int    NOT NULL,
    day          int    NOT NULL,
    day_bytes    bigint NOT NULL,
    total_bytes  bigint NOT NULL,
    PRIMARY KEY (shard, tenant, device_alias)
);
