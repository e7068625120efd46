"""The SQL of one batch. $1 is the shard, $2 the tenant; further parameters are columns, one array each.

It deliberately uses nothing that a distributed PostgreSQL lacks: ``unnest``, ``LATERAL``, ``ON CONFLICT``.
"""

from __future__ import annotations

from typing import Final

FORGET_NONCES: Final = "DELETE FROM request_nonce WHERE shard = $1 AND expires_at_ms < $2"

REMEMBER_NONCES: Final = """
INSERT INTO request_nonce
SELECT $1, $2, alias, nonce, expires FROM unnest($3::int[], $4::text[], $5::bigint[]) AS asked(alias, nonce, expires)
ON CONFLICT DO NOTHING RETURNING device_alias, nonce
"""

REVOKED: Final = """
SELECT device_alias FROM device
WHERE shard = $1 AND tenant = $2 AND device_alias = ANY($3::int[]) AND revoked_at_ms IS NOT NULL
"""

PROGRESS: Final = """
SELECT stored.device_alias, stored.epoch, stored.acknowledged
FROM unnest($3::int[], $4::int[]) AS asked(alias, epoch)
JOIN device_progress AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
"""

DIGESTS: Final = """
SELECT device_alias, count, total FROM device_digest WHERE shard = $1 AND tenant = $2 AND device_alias = ANY($3::int[])
"""

_RUNS: Final = """
FROM unnest($3::int[], $4::int[], $5::int[], $6::int[]) AS asked(alias, epoch, first, last)
JOIN {table} AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
    AND stored.counter BETWEEN asked.first AND asked.last
"""
STORED_SHARES: Final = "SELECT stored.device_alias, stored.epoch, stored.counter, stored.row_sum" + _RUNS.format(
    table="result_row"
)
QUARANTINED: Final = "SELECT stored.device_alias, stored.epoch, stored.counter, stored.reason" + _RUNS.format(
    table="quarantined_row"
)

ANNOTATIONS: Final = """
SELECT stored.device_alias, stored.epoch, stored.counter, stored.author, stored.row_sealed
FROM unnest($3::int[], $4::int[], $5::int[], $6::text[]) AS asked(alias, epoch, counter, author)
JOIN annotation AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.device_alias = asked.alias AND stored.epoch = asked.epoch
    AND stored.counter = asked.counter AND stored.author = asked.author
"""

INSERT_RESULTS: Final = """
INSERT INTO result_row
SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::text[], $7::bytea[], $8::int[], $9::bytea[],
                             $10::bigint[], $11::uuid[], $12::uuid[])
"""

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
INSERT INTO annotation
SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[], $6::text[], $7::text[], $8::bytea[], $9::int[],
                             $10::bigint[], $11::int[], $12::int[])
ON CONFLICT (shard, tenant, device_alias, epoch, counter, author) DO UPDATE SET
    row_sealed = excluded.row_sealed, key_version = excluded.key_version, commit_seq = excluded.commit_seq,
    origin_alias = excluded.origin_alias, origin_epoch = excluded.origin_epoch
"""

PUT_PROGRESS: Final = """
INSERT INTO device_progress SELECT $1, $2, * FROM unnest($3::int[], $4::int[], $5::int[])
ON CONFLICT (shard, tenant, device_alias, epoch) DO UPDATE SET acknowledged = excluded.acknowledged
"""

PUT_DIGESTS: Final = """
INSERT INTO device_digest SELECT $1, $2, * FROM unnest($3::int[], $4::bigint[], $5::bytea[])
ON CONFLICT (shard, tenant, device_alias) DO UPDATE SET count = excluded.count, total = excluded.total
"""

FEED: Final = """
SELECT asked.place, found.device_alias, found.epoch, found.counter, found.author, found.row_sealed, found.commit_seq
FROM unnest($3::int[], $4::int[], $5::int[], $6::bigint[]) AS asked(place, alias, epoch, since)
CROSS JOIN LATERAL (
    SELECT device_alias, epoch, counter, author, row_sealed, commit_seq FROM annotation
    WHERE shard = $1 AND tenant = $2 AND device_alias = asked.alias AND commit_seq > asked.since
        AND (origin_alias, origin_epoch) IS DISTINCT FROM (asked.alias, asked.epoch)
    ORDER BY commit_seq LIMIT $7
) AS found
ORDER BY asked.place, found.commit_seq
"""
