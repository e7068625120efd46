"""The SQL of one batch: what it loads and what it writes. $1 is the shard, $2 the tenant; then columns, an array each.

It deliberately uses nothing that a distributed PostgreSQL lacks: ``unnest``, ``ON CONFLICT``, ``COPY``.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = "SELECT shard_epoch, commit_seq FROM shard_head WHERE shard = $1 FOR UPDATE"
# A plan that is made once and told which months to open when it runs; planning anew takes longer than a small batch.
HEAD_BY_MONTH: Final = (
    "SELECT shard_epoch, commit_seq, set_config('plan_cache_mode', 'force_generic_plan', true) "
    "FROM shard_head WHERE shard = $1 FOR UPDATE"
)
PUT_HEAD: Final = "UPDATE shard_head SET commit_seq = $2 WHERE shard = $1"

FORGET_NONCES: Final = "DELETE FROM request_nonce WHERE shard = $1 AND expires_at_ms < $2"

REMEMBER_NONCES: Final = """
INSERT INTO request_nonce
SELECT $1, $2, alias, nonce, expires FROM unnest($3::int[], $4::text[], $5::bigint[]) AS asked(alias, nonce, expires)
ON CONFLICT DO NOTHING RETURNING device_alias, nonce
"""

# ---- load ---------------------------------------------------------------------------------------------------------
DEVICES: Final = """
SELECT stored.patient_id, stored.device_id, stored.device_alias, stored.sync_key_sealed,
    stored.revoked_at_ms IS NOT NULL AS revoked, cursor.shard_epoch, cursor.commit_seq
FROM device AS stored
LEFT JOIN device_cursor AS cursor
    ON cursor.shard = $1 AND cursor.tenant = $2 AND cursor.device_alias = stored.device_alias
WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.patient_id = ANY($3::text[])
ORDER BY stored.device_alias
"""

KEY_VERSIONS: Final = """
SELECT patient_id, key_version, seals FROM patient_key WHERE shard = $1 AND tenant = $2 AND patient_id = ANY($3::text[])
UNION ALL  -- of who was erased no key is good any more
SELECT patient_id, 0, true FROM erasure WHERE shard = $1 AND tenant = $2 AND patient_id = ANY($3::text[])
"""

HORIZONS: Final = """
SELECT patient_id, collected_seq FROM patient_horizon
WHERE shard = $1 AND tenant = $2 AND patient_id = ANY($3::text[])
"""

DIGESTS: Final = """
SELECT device_alias, kind, count, total FROM bucket_digest
WHERE shard = $1 AND tenant = $2 AND device_alias = ANY($3::int[])
"""

PROGRESS: Final = """
SELECT asked.alias, asked.epoch, stored.acknowledged, stored.notes_acknowledged, ahead.highest
FROM unnest($3::int[], $4::int[]) AS asked(alias, epoch)
LEFT JOIN device_progress AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
LEFT JOIN result_ahead AS ahead
    ON ahead.shard = $1 AND ahead.tenant = $2 AND ahead.device_alias = asked.alias AND ahead.epoch = asked.epoch
"""

_RUNS: Final = """
FROM unnest($3::int[], $4::int[], $5::int[], $6::int[]) AS asked(alias, epoch, first, last)
JOIN {table} AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
    AND stored.counter BETWEEN asked.first AND asked.last
"""
_ID: Final = "SELECT stored.device_alias, stored.epoch, stored.counter, "
STORED_SHARES: Final = _ID + "stored.row_sum" + _RUNS.format(table="result_row")
QUARANTINED: Final = _ID + "stored.reason" + _RUNS.format(table="quarantined_row")
NOTES: Final = _ID + "stored.patient_id, stored.row_sealed" + _RUNS.format(table="note")
BURIED_RUNS: Final = (
    "SELECT stored.kind, stored.device_alias, stored.epoch, stored.counter, stored.author, stored.hlc"
    + _RUNS.format(table="tombstone")
    + "WHERE stored.kind = $7"
)

_WORDS: Final = """
FROM unnest($3::int[], $4::int[], $5::int[], $6::text[]) AS asked(alias, epoch, counter, author)
JOIN {table} AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
    AND stored.counter = asked.counter AND (asked.author = '' OR stored.author = asked.author)
"""
ANNOTATIONS: Final = (
    _ID
    + "stored.author, stored.patient_id, stored.row_sealed, stored.origin_alias, stored.origin_epoch"
    + _WORDS.format(table="annotation")
)
OVERTAKEN: Final = (
    _ID
    + "stored.author, stored.field, stored.hlc, stored.row_sum, stored.patient_id, stored.row_sealed, stored.commit_seq"
    + _WORDS.format(table="superseded_write")
)
BURIED: Final = """
SELECT stored.kind, stored.device_alias, stored.epoch, stored.counter, stored.author, stored.hlc
FROM unnest($3::int[], $4::int[], $5::bigint[], $6::int[], $7::text[]) AS asked(kind, alias, epoch, counter, author)
JOIN tombstone AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.kind = asked.kind AND stored.device_alias = asked.alias
    AND stored.epoch = asked.epoch AND stored.counter = asked.counter AND stored.author = asked.author
"""

SERVER_NOTES: Final = """
SELECT patient_id, epoch, counter, row_sealed FROM note
WHERE shard = $1 AND tenant = $2 AND patient_id = ANY($3::text[]) AND device_alias = 0
ORDER BY epoch, counter
"""

DOCUMENTS: Final = """
SELECT stored.patient_id, stored.name, stored.version
FROM unnest($3::text[], $4::text[]) AS asked(patient, name)
JOIN document AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.patient_id = asked.patient AND stored.name = asked.name
"""

NAMED_ELSEWHERE: Final = """
SELECT asked.patient, asked.name FROM unnest($3::text[], $4::text[]) AS asked(patient, name)
WHERE asked.patient <> '' AND EXISTS (
    SELECT 1 FROM document AS stored
    WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.patient_id = '' AND stored.name = asked.name
) OR asked.patient = '' AND EXISTS (
    SELECT 1 FROM document AS stored
    WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.patient_id <> '' AND stored.name = asked.name
)
"""

# ---- remove -------------------------------------------------------------------------------------------------------
_GONE: Final = """
DELETE FROM {table} AS stored USING unnest($3::int[], $4::int[], $5::int[]) AS asked(alias, epoch, counter)
WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
    AND stored.counter = asked.counter
"""
GONE_RESULTS: Final = _GONE.format(table="result_row")
GONE_NOTES: Final = _GONE.format(table="note")
GONE_ANNOTATIONS: Final = """
DELETE FROM annotation AS stored
USING unnest($3::int[], $4::int[], $5::int[], $6::text[]) AS asked(alias, epoch, counter, author)
WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
    AND stored.counter = asked.counter AND stored.author = asked.author
"""
GONE_SUPERSEDED: Final = """
DELETE FROM superseded_write AS stored
USING unnest($3::int[], $4::int[], $5::int[], $6::text[], $7::int[], $8::bigint[]) AS
    asked(alias, epoch, counter, author, field, hlc)
WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
    AND stored.counter = asked.counter AND stored.author = asked.author AND stored.field = asked.field
    AND stored.hlc = asked.hlc
"""

# ---- write --------------------------------------------------------------------------------------------------------
INSERT_QUARANTINED: Final = """
INSERT INTO quarantined_row
SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::text[], $7::bytea[], $8::int[], $9::int[],
                             $10::bigint[])
"""

INSERT_SEALS: Final = """
INSERT INTO result_seal
SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::int[], $7::bytea[], $8::bytea[], $9::bytea[])
ON CONFLICT DO NOTHING
"""

PUT_ANNOTATIONS: Final = """
INSERT INTO annotation (shard, tenant, device_alias, epoch, counter, author, patient_id, row_sealed, key_version,
                        row_sum, commit_seq, origin_alias, origin_epoch)
SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::text[], $7::text[], $8::bytea[], $9::int[],
                             $10::bytea[], $11::bigint[], $12::int[], $13::int[])
ON CONFLICT (shard, tenant, device_alias, epoch, counter, author) DO UPDATE SET
    row_sealed = excluded.row_sealed, key_version = excluded.key_version, row_sum = excluded.row_sum,
    commit_seq = excluded.commit_seq, origin_alias = excluded.origin_alias, origin_epoch = excluded.origin_epoch
"""

INSERT_SUPERSEDED: Final = """
INSERT INTO superseded_write
SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::text[], $7::int[], $8::bigint[], $9::bytea[],
                             $10::text[], $11::bytea[], $12::int[], $13::bigint[])
"""

INSERT_NOTES: Final = """
INSERT INTO note
SELECT $1, $2, * FROM unnest($3::int[], $4::bigint[], $5::int[], $6::text[], $7::bytea[], $8::int[], $9::bytea[],
                             $10::bigint[])
"""

PUT_TOMBSTONES: Final = """
INSERT INTO tombstone
SELECT $1, $2, *, false FROM unnest($3::int[], $4::int[], $5::bigint[], $6::int[], $7::text[], $8::text[],
                                    $9::bigint[], $10::bigint[], $11::bigint[])
ON CONFLICT (shard, tenant, kind, device_alias, epoch, counter, author) DO UPDATE SET
    hlc = excluded.hlc, commit_seq = excluded.commit_seq, deleted_at_ms = excluded.deleted_at_ms, collected = false
"""

PUT_DOCUMENTS: Final = """
INSERT INTO document
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::int[], $6::bigint[], $7::bytea[], $8::int[], $9::bytea[],
                             $10::bigint[])
ON CONFLICT (shard, tenant, patient_id, name) DO UPDATE SET
    version = excluded.version, issued_at_ms = excluded.issued_at_ms, body = excluded.body,
    key_version = excluded.key_version, signature = excluded.signature, commit_seq = excluded.commit_seq
"""

PUT_PROGRESS: Final = """
INSERT INTO device_progress (shard, tenant, device_alias, epoch, acknowledged, notes_acknowledged)
SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::int[])
ON CONFLICT (shard, tenant, device_alias, epoch) DO UPDATE SET
    acknowledged = excluded.acknowledged, notes_acknowledged = excluded.notes_acknowledged
"""

PUT_AHEAD: Final = """
INSERT INTO result_ahead AS stored SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[])
ON CONFLICT (shard, tenant, device_alias, epoch) DO UPDATE SET highest = greatest(stored.highest, excluded.highest)
"""

PUT_DIGESTS: Final = """
INSERT INTO bucket_digest SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::bigint[], $6::bytea[])
ON CONFLICT (shard, tenant, device_alias, kind) DO UPDATE SET count = excluded.count, total = excluded.total
"""

PUT_CURSORS: Final = """
INSERT INTO device_cursor SELECT $1, $2, * FROM unnest($3::int[], $4::bigint[], $5::bigint[])
ON CONFLICT (shard, tenant, device_alias) DO UPDATE SET
    shard_epoch = excluded.shard_epoch, commit_seq = excluded.commit_seq
"""
