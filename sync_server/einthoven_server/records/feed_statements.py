"""The SQL of what is read: the feed, a repair's buckets, and what may be collected. $1 is the shard, $2 the tenant.

Invariants:
    1. Every part of the feed is one index scan by (shard, tenant, patient_id, commit_seq), cut by a limit.
"""

from __future__ import annotations

from typing import Final

KINDS: Final = ("results", "annotations", "superseded", "notes", "tombstones", "documents")
"""By the number that the feed gives for them."""

_NOT_OWN: Final = "(device_alias, epoch) IS DISTINCT FROM (asked.alias, asked.epoch)"
_NOT_KNOWN: Final = "(origin_alias, origin_epoch) IS DISTINCT FROM (asked.alias, asked.epoch)"
_ID: Final = "device_alias, epoch::bigint AS epoch, counter"
_NOTHING: Final = "NULL::text AS author, 0 AS number, 0::bigint AS hlc, NULL::bytea AS octets"


_PART: Final = """(
    SELECT {kind} AS kind, commit_seq, {columns} FROM {table}
    WHERE shard = $1 AND tenant = $2 AND patient_id = {patient} AND commit_seq > asked.since AND {condition}
    ORDER BY commit_seq LIMIT {limit}
)"""
_FEED: Final = """
SELECT asked.place, found.*
FROM unnest($3::int[], $4::int[], $5::int[], $6::bigint[], $7::text[]) AS asked(place, alias, epoch, since, patient)
CROSS JOIN LATERAL ({parts}) AS found
ORDER BY asked.place, found.commit_seq
"""


def _part(
    kind: int, table: str, columns: str, condition: str = "true", *, limit: int, patient: str = "asked.patient"
) -> str:
    return _PART.format(
        kind=kind, table=table, columns=columns, condition=condition, limit=f"${limit}", patient=patient
    )


def _feed(*parts: str) -> str:
    return _FEED.format(parts=" UNION ALL ".join(parts))


_ANNOTATION: Final = f"{_ID}, author, 0 AS number, 0::bigint AS hlc, NULL::bytea AS octets, row_sealed"
_DOCUMENT: Final = """key_version AS device_alias, issued_at_ms AS epoch, version AS counter, name AS author,
        0 AS number, 0::bigint AS hlc, signature AS octets, body AS row_sealed"""

_SUPERSEDED: Final = f"{_ID}, author, field AS number, hlc, row_sum AS octets, row_sealed"
_TOMBSTONE: Final = f"{_ID}, author, kind AS number, hlc, NULL::bytea AS octets, NULL::bytea AS row_sealed"

OLD_FEED: Final = _feed(_part(1, "annotation", _ANNOTATION, f"device_alias = asked.alias AND {_NOT_KNOWN}", limit=8))
"""What a device gets that knows of annotations on its own results only."""

_OTHERS: Final = (
    _part(1, "annotation", _ANNOTATION, _NOT_KNOWN, limit=9),
    _part(2, "superseded_write", _SUPERSEDED, limit=10),
    _part(3, "note", f"{_ID}, {_NOTHING}, row_sealed", _NOT_OWN, limit=11),
    _part(4, "tombstone", _TOMBSTONE, "NOT collected", limit=12),
    _part(5, "document", _DOCUMENT, limit=13),
    _part(5, "document", _DOCUMENT, limit=13, patient="''"),
)
_RESULT: Final = f"{_ID}, {_NOTHING}, row_sealed"
FEED: Final = _feed(_part(0, "result_row", _RESULT, _NOT_OWN, limit=8), *_OTHERS)
"""Limits are those of the kinds, in their order. A document of all of the tenant lies under no patient."""
FEED_BY_MONTH: Final = _feed(_part(0, "result_row", _RESULT, f"{_NOT_OWN} AND commit_seq > $14", limit=8), *_OTHERS)
"""The same; $14 is the least cursor asked with. Months before it are not even opened."""

# ---- a repair's buckets -------------------------------------------------------------------------------------------
POSITION: Final = "SELECT shard_epoch, commit_seq FROM shard_head WHERE shard = $1"

BUCKET_RESULTS: Final = """
SELECT epoch, array_agg(counter ORDER BY counter) AS counters, string_agg(row_sum, ''::bytea ORDER BY counter) AS sums
FROM result_row WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND device_alias = $4
GROUP BY epoch ORDER BY epoch
"""

_RESULTS: Final = """
SELECT stored.device_alias, stored.epoch, stored.counter, stored.row_sealed FROM {asked}
JOIN result_row AS stored
    ON stored.shard = $1 AND stored.tenant = $2 AND stored.patient_id = $3 AND stored.device_alias = $4
    AND stored.epoch = asked.epoch AND {counters}
ORDER BY stored.epoch, stored.counter
"""
RESULTS_BY_NAME: Final = _RESULTS.format(
    asked="(SELECT DISTINCT * FROM unnest($5::int[], $6::int[]) AS named(epoch, counter)) AS asked",
    counters="stored.counter = asked.counter",
)
RESULTS_BY_RUN: Final = (
    _RESULTS.format(
        asked="unnest($5::int[], $6::int[], $7::int[]) AS asked(epoch, first, last)",
        counters="stored.counter BETWEEN asked.first AND asked.last",
    )
    + "LIMIT $8"
)

BUCKET_ANNOTATIONS: Final = """
SELECT epoch, counter, author, row_sum, row_sealed FROM annotation
WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND device_alias = $4
"""
BUCKET_NOTES: Final = """
SELECT epoch, counter, row_sum, row_sealed FROM note
WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND device_alias = $4
"""
BUCKET_SUPERSEDED: Final = """
SELECT epoch, counter, author, field, hlc, row_sum, row_sealed FROM superseded_write
WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND device_alias = $4 AND commit_seq > 0
"""

# ---- collection ---------------------------------------------------------------------------------------------------
# A device of which nothing is known, or that reads another history, has read nothing.
COLLECTED: Final = """
WITH read_by_all AS (
    SELECT buried.patient_id, coalesce(min(CASE
        WHEN device.device_id IS NULL THEN NULL
        WHEN cursor.shard_epoch = $3 THEN cursor.commit_seq ELSE 0 END), $4) AS seq
    FROM (SELECT DISTINCT patient_id FROM tombstone WHERE shard = $1 AND tenant = $2 AND NOT collected) AS buried
    LEFT JOIN device ON device.shard = $1 AND device.tenant = $2 AND device.patient_id = buried.patient_id
        AND device.revoked_at_ms IS NULL
    LEFT JOIN device_cursor AS cursor
        ON cursor.shard = $1 AND cursor.tenant = $2 AND cursor.device_alias = device.device_alias
    GROUP BY buried.patient_id
)
SELECT kind, device_alias, epoch, counter, author, tombstone.patient_id, commit_seq
FROM tombstone JOIN read_by_all ON read_by_all.patient_id = tombstone.patient_id
WHERE shard = $1 AND tenant = $2 AND NOT collected AND (deleted_at_ms < $5 OR commit_seq <= read_by_all.seq)
LIMIT $6
"""
TAKE_FROM_FEED: Final = """
UPDATE tombstone AS stored SET collected = true
FROM unnest($3::int[], $4::int[], $5::bigint[], $6::int[], $7::text[]) AS asked(kind, alias, epoch, counter, author)
WHERE stored.shard = $1 AND stored.tenant = $2 AND stored.kind = asked.kind AND stored.device_alias = asked.alias
    AND stored.epoch = asked.epoch AND stored.counter = asked.counter AND stored.author = asked.author
"""
PUT_HORIZONS: Final = """
INSERT INTO patient_horizon SELECT $1, $2, * FROM unnest($3::text[], $4::bigint[])
ON CONFLICT (shard, tenant, patient_id) DO UPDATE SET
    collected_seq = greatest(patient_horizon.collected_seq, excluded.collected_seq)
"""
