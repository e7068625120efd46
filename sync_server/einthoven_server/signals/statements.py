"""The SQL of uploads under way. $1 is the shard, $2 the tenant, and $3 the device or the upload.

It deliberately uses nothing that a distributed PostgreSQL lacks.
"""

from __future__ import annotations

from typing import Final

FIND_BY_CHUNK: Final = """
SELECT upload_id, device_alias, chunk, length, received, expires_at_ms FROM signal_upload
WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND chunk = $4
"""
FIND: Final = """
SELECT upload_id, device_alias, chunk, length, received, expires_at_ms FROM signal_upload
WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND upload_id = $4
"""
CREATE: Final = """
INSERT INTO signal_upload VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (shard, tenant, device_alias, chunk) DO UPDATE SET expires_at_ms = excluded.expires_at_ms
RETURNING upload_id, device_alias, chunk, length, received, expires_at_ms
"""
ADVANCE: Final = """
UPDATE signal_upload SET received = received + $6
WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND upload_id = $4 AND received = $5
RETURNING upload_id, device_alias, chunk, length, received, expires_at_ms
"""
SET_BACK: Final = """
UPDATE signal_upload SET received = $5
WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND upload_id = $4 AND received < length
"""
FINISH: Final = "UPDATE signal_upload SET received = length WHERE shard = $1 AND tenant = $2 AND upload_id = $3"
REMOVE: Final = "DELETE FROM signal_upload WHERE shard = $1 AND tenant = $2 AND upload_id = $3"

PUT_PIECE: Final = "INSERT INTO signal_upload_piece VALUES ($1, $2, $3, $4, $5, $6)"
PIECES: Final = """
SELECT first_byte, piece_sealed FROM signal_upload_piece
WHERE shard = $1 AND tenant = $2 AND upload_id = $3 ORDER BY first_byte
"""
REMOVE_PIECES: Final = """
DELETE FROM signal_upload_piece WHERE shard = $1 AND tenant = $2 AND upload_id = $3 AND first_byte >= $4
"""

FORGOTTEN: Final = """
SELECT upload_id FROM signal_upload WHERE shard = $1 AND tenant = $2 AND expires_at_ms <= $3
ORDER BY expires_at_ms LIMIT $4
"""
REMOVE_EXPIRED_PIECES: Final = """
DELETE FROM signal_upload_piece WHERE shard = $1 AND tenant = $2 AND upload_id IN (
    SELECT upload_id FROM signal_upload_piece JOIN signal_upload USING (shard, tenant, upload_id)
    WHERE shard = $1 AND tenant = $2 AND expires_at_ms <= $3 LIMIT $4
)
"""
COUNT_OPEN: Final = """
SELECT count(*) AS n FROM signal_upload
WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND received < length AND expires_at_ms > $4
"""
MAKE_WAY: Final = """
UPDATE signal_upload SET expires_at_ms = $4 WHERE shard = $1 AND tenant = $2 AND upload_id IN (
    SELECT upload_id FROM (
        SELECT upload_id, expires_at_ms FROM signal_upload
        WHERE shard = $1 AND tenant = $2 AND device_alias = $3 AND received < length AND expires_at_ms > $4
        ORDER BY expires_at_ms DESC, upload_id OFFSET $5
    ) AS oldest WHERE expires_at_ms <= $6
)
"""
USAGE: Final = """
SELECT day, day_bytes, total_bytes FROM signal_usage WHERE shard = $1 AND tenant = $2 AND device_alias = $3
"""
