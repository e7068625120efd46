"""The outbox and the books of an exchange inside the encrypted store: the rules of ``store_rules``, written as SQL.

Runs inside the caller's transaction and deliberately begins and commits none.

Invariants:
    1. The running digest is that of what ``store_rules`` rule 5 names: each change of that set adds to or removes from
       it, and a change of sync key or device alias computes it anew.
    2. The work is in proportion to the rows of this exchange, not to the rows of the store.
"""

from __future__ import annotations

from sqlcipher3 import dbapi2

from einthoven.ports import Pending, SyncState
from einthoven.store_rules import (
    SYNC_KEY_SETTING,
    annotation_row_bytes,
    begins_new_history,
    check_acknowledged,
    checked_sync_key,
    next_cursor,
    refused_verdicts,
)
from einthoven_protocol import digests
from einthoven_protocol.canonical import decode_annotation_row, decode_result_row
from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE, MAX_RESULTS_PER_EXCHANGE, SUM_BYTES
from einthoven_protocol.merge import merge_annotation
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    ResultRow,
    RowVerdict,
)

_LOCAL_AND_KNOWN = """SELECT local_body, known_body FROM annotation
    WHERE device_alias = ? AND epoch = ? AND counter = ? AND author = ?"""


class _RunningDigest:
    """The digest while it changes, with what it is keyed with."""

    def __init__(self, digest: Digest, key: bytes, device_alias: int) -> None:
        self.digest = digest
        self.key = key
        self.device_alias = device_alias

    def add_result(self, epoch: int, row: ResultRow) -> None:
        self.digest = digests.add(self.digest, digests.result_sum(self.key, self.device_alias, epoch, row))

    def add_annotation(self, row: AnnotationRow) -> None:
        self.digest = digests.add(self.digest, digests.annotation_sum(self.key, row))

    def remove_annotation(self, row: AnnotationRow) -> None:
        self.digest = digests.remove(self.digest, digests.annotation_sum(self.key, row))


def read_pending(connection: dbapi2.Connection, limit: int) -> Pending:
    """What to push next, in one message of the protocol at most."""
    results = connection.execute(
        """SELECT body, segment_digest FROM sync JOIN epoch USING (epoch) JOIN result USING (epoch)
            WHERE counter > acknowledged ORDER BY counter LIMIT ?""",
        (min(limit, MAX_RESULTS_PER_EXCHANGE),),
    ).fetchall()
    annotations = connection.execute(
        """SELECT local_body FROM annotation WHERE own AND local_body IS NOT known_body
            ORDER BY device_alias, epoch, counter, author LIMIT ?""",
        (min(limit, MAX_ANNOTATIONS_PER_EXCHANGE),),
    )
    return Pending(
        results=tuple(decode_result_row(body) for body, _ in results),
        segment_digests=tuple(digest for _, digest in results),
        annotations=tuple(decode_annotation_row(body) for (body,) in annotations),
    )


def read_sync_state(connection: dbapi2.Connection) -> SyncState:
    """Where the store stands."""
    epoch, acknowledged, last_exchange_ms, equal = connection.execute(
        "SELECT epoch, acknowledged, last_exchange_ms, last_digest_equal FROM sync JOIN epoch USING (epoch)"
    ).fetchone()
    (waiting,) = connection.execute(
        """SELECT (SELECT sum(last_counter - acknowledged) FROM epoch)
            + (SELECT count(*) FROM annotation WHERE own AND local_body IS NOT known_body)"""
    ).fetchone()
    refused = connection.execute("SELECT counter, code, reason FROM refusal WHERE epoch = ? ORDER BY counter", (epoch,))
    return SyncState(
        epoch=epoch,
        acknowledged=acknowledged,
        cursor=_read_cursor(connection),
        digest=_read_digest(connection),
        waiting=waiting,
        refused=tuple(RowVerdict(counter, code, reason) for counter, code, reason in refused),
        last_exchange_ms=last_exchange_ms,
        last_digest_equal=None if equal is None else bool(equal),
    )


def put_local_annotation(connection: dbapi2.Connection, row: AnnotationRow) -> AnnotationRow:
    """Merge a row into the local one; return the merged row."""
    local, _ = _annotation(connection, row)
    merged = row if local is None else merge_annotation(local, row)
    connection.execute(
        """INSERT INTO annotation (device_alias, epoch, counter, author, local_body, own) VALUES (?, ?, ?, ?, ?, 1)
            ON CONFLICT DO UPDATE SET local_body = excluded.local_body, own = 1""",
        (*_annotation_name(row), annotation_row_bytes(merged)),
    )
    return merged


def take_over(
    connection: dbapi2.Connection, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int
) -> None:
    """Apply a checked response.

    Raises:
        NotEnrolled: There is no sync key.
        SyncError: The server holds results of this device that are not here.
        InputError: An annotation is over the protocol's limits.
    """
    line = connection.execute("SELECT value FROM setting WHERE name = ?", (SYNC_KEY_SETTING,)).fetchone()
    key = checked_sync_key(line and line[0])
    line = connection.execute("SELECT last_counter FROM epoch WHERE epoch = ?", (request.epoch,)).fetchone()
    check_acknowledged(response, line and line[0])
    stored_cursor = _read_cursor(connection)
    if begins_new_history(stored_cursor, response):
        _forget_what_the_server_lost(connection, request.epoch, response.acknowledged)
    running = _running_digest(connection, key, request.device_alias)
    _acknowledge(connection, request.epoch, response, running)
    for row in (*request.annotations, *response.annotations):
        _learn(connection, row, running)
    cursor = next_cursor(stored_cursor, request, response)
    connection.execute(
        """UPDATE sync SET cursor_shard_epoch = ?, cursor_commit_seq = ?, digest_count = ?, digest_total = ?,
            digest_key = ?, digest_device_alias = ?, last_exchange_ms = ?, last_digest_equal = ?""",
        (
            cursor.shard_epoch,
            cursor.commit_seq,
            running.digest.count,
            running.digest.total.to_bytes(SUM_BYTES, "big"),
            key,
            request.device_alias,
            at_ms,
            running.digest == response.digest,
        ),
    )


def _forget_what_the_server_lost(connection: dbapi2.Connection, epoch: int, acknowledged: int) -> None:
    connection.execute("UPDATE epoch SET acknowledged = min(acknowledged, ?) WHERE epoch = ?", (acknowledged, epoch))
    connection.execute("DELETE FROM refusal WHERE epoch = ? AND counter > ?", (epoch, acknowledged))
    connection.execute("UPDATE annotation SET known_body = NULL")
    # Keyed with nothing: the digest is computed anew.
    connection.execute("UPDATE sync SET digest_key = NULL")


def _acknowledge(
    connection: dbapi2.Connection, epoch: int, response: ExchangeResponse, running: _RunningDigest
) -> None:
    """Decide the fate of every counter that the mark passes."""
    (acknowledged,) = connection.execute("SELECT acknowledged FROM epoch WHERE epoch = ?", (epoch,)).fetchone()
    if response.acknowledged <= acknowledged:
        return
    refused = refused_verdicts(response)
    newly = connection.execute(
        "SELECT counter, body FROM result WHERE epoch = ? AND counter > ? AND counter <= ?",
        (epoch, acknowledged, response.acknowledged),
    )
    for counter, body in newly:
        if counter not in refused:
            running.add_result(epoch, decode_result_row(body))
    connection.executemany(
        "INSERT INTO refusal (epoch, counter, code, reason) VALUES (?, ?, ?, ?)",
        [
            (epoch, counter, int(verdict.code), int(verdict.reason))
            for counter, verdict in refused.items()
            if acknowledged < counter <= response.acknowledged
        ],
    )
    connection.execute("UPDATE epoch SET acknowledged = ? WHERE epoch = ?", (response.acknowledged, epoch))


def _learn(connection: dbapi2.Connection, row: AnnotationRow, running: _RunningDigest) -> None:
    """Merge a row that the server holds into what it is known to hold, and that into the local row."""
    annotation_row_bytes(row)
    local, before = _annotation(connection, row)
    known = row
    if before is not None:
        known = merge_annotation(before, row)
        running.remove_annotation(before)
    running.add_annotation(known)
    local = known if local is None else merge_annotation(local, known)
    connection.execute(
        """INSERT INTO annotation (device_alias, epoch, counter, author, local_body, known_body)
            VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT DO UPDATE SET local_body = excluded.local_body, known_body = excluded.known_body""",
        (*_annotation_name(row), annotation_row_bytes(local), annotation_row_bytes(known)),
    )


def _annotation(connection: dbapi2.Connection, row: AnnotationRow) -> tuple[AnnotationRow | None, AnnotationRow | None]:
    """The local row of this name, and the one that the server is known to hold."""
    bodies = connection.execute(_LOCAL_AND_KNOWN, _annotation_name(row)).fetchone() or (None, None)
    local, known = (body if body is None else decode_annotation_row(body) for body in bodies)
    return local, known


def _annotation_name(row: AnnotationRow) -> tuple[int, int, int, str]:
    target = row.target
    return (target.device_alias, target.epoch, target.counter, row.author)


def _read_cursor(connection: dbapi2.Connection) -> Cursor:
    return Cursor(*connection.execute("SELECT cursor_shard_epoch, cursor_commit_seq FROM sync").fetchone())


def _read_digest(connection: dbapi2.Connection) -> Digest:
    count, total = connection.execute("SELECT digest_count, digest_total FROM sync").fetchone()
    return Digest(count, int.from_bytes(total, "big"))


def _running_digest(connection: dbapi2.Connection, key: bytes, device_alias: int) -> _RunningDigest:
    """The stored digest, computed anew if it was keyed with something else."""
    keyed_with = connection.execute("SELECT digest_key, digest_device_alias FROM sync").fetchone()
    if keyed_with == (key, device_alias):
        return _RunningDigest(_read_digest(connection), key, device_alias)
    running = _RunningDigest(digests.EMPTY, key, device_alias)
    held = connection.execute(
        """SELECT epoch, result.body FROM result JOIN epoch USING (epoch)
            WHERE counter <= acknowledged
            AND NOT EXISTS (SELECT 1 FROM refusal
                WHERE refusal.epoch = result.epoch AND refusal.counter = result.counter)"""
    )
    for epoch, body in held:
        running.add_result(epoch, decode_result_row(body))
    for (body,) in connection.execute("SELECT known_body FROM annotation WHERE known_body IS NOT NULL"):
        running.add_annotation(decode_annotation_row(body))
    return running
