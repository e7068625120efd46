"""Every row that is written to the store: its tag, the sums of the tags, the number of the commit.

All writing goes through ``SqlCipherRows``: it tags a row, keeps the sums of the tags in memory, and writes sums and
commit number in the transaction that changed the rows. It works on any connection, also one of plain SQLite, and
deliberately opens none and decides nothing.

Invariants:
    1. A transaction that changes a row adds one to ``commit_seq`` and leaves sums that are those of the rows; one that
       changes nothing leaves the file as it was.
    2. After a transaction that failed, what is held in memory is what the file holds.
    3. One object writes a file at a time (``file_lock`` sees to that), so nothing that is held in memory goes stale.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Self

import numpy as np
from sqlcipher3 import dbapi2

from einthoven.errors import StoreDamaged
from einthoven.local_audit import entry_after
from einthoven.result_packing import HEAD_BYTES, PACKED_ROW_BYTES, TIME_DIGITS, decimal_digits, pack_results
from einthoven.results import WindowResult
from einthoven.rollback import AnchorRecord, StoredState, highest_known_epoch
from einthoven.sqlcipher_row_reading import Report, Row, RowReader, ignore_damage, row_with_key
from einthoven.sqlcipher_signals import SignalRun
from einthoven.store_events import ForkReason, StoreEvent, StoreForked
from einthoven.store_rules import Draw, fork_subject, next_epoch, result_row_bytes
from einthoven.store_run_tags import replica_run_tags
from einthoven.store_schema import TABLE_BY_NAME, TABLES, Table, position_of
from einthoven.store_tags import TAG_BYTES, RowTags, TableSums, Value
from einthoven.store_values import AuditAction, AuditEntry
from einthoven_protocol.packed_results import RESULT_ROW_BYTES, ResultRows

RESULTS_PER_STATEMENT: Final = 10_000
"""Results that one statement inserts: enough to make its cost vanish, little enough to pack in a few MB."""
KEYS_PER_STATEMENT: Final = 500
"""Rows that one statement removes by key."""


def _put(table: Table) -> str:
    columns = (*table.columns, "tag")
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in table.key)
    return (
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changes}"
    )


_TAG_BY_KEY: Final = {table.name: f"SELECT tag FROM {table.name} {row_with_key(table)}" for table in TABLES}  # noqa: S608
_PUT: Final = {table.name: _put(table) for table in TABLES}
_DELETE: Final = {table.name: f"DELETE FROM {table.name} {row_with_key(table)} RETURNING tag" for table in TABLES}  # noqa: S608
_INSERT_RESULTS: Final = f"""WITH RECURSIVE line (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM line WHERE i + 1 < ?1)
    INSERT INTO result (position, started_at_ms, body, segment_digest, tag)
    SELECT ?2 + i, CAST(substr(?3, i * {TIME_DIGITS} + 1, {TIME_DIGITS}) AS INTEGER),
        substr(?4, i * {PACKED_ROW_BYTES} + {HEAD_BYTES + 1}, {PACKED_ROW_BYTES - HEAD_BYTES}),
        substr(?4, i * {PACKED_ROW_BYTES} + 9, {HEAD_BYTES - 8}), substr(?5, i * {TAG_BYTES} + 1, {TAG_BYTES})
    FROM line"""  # noqa: S608 - numbers of our own

_INSERT_REPLICAS: Final = f"""WITH RECURSIVE line (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM line WHERE i + 1 < ?1)
    INSERT INTO replica (device_alias, position, started_at_ms, history, body, tag)
    SELECT ?2, ?3 + i, CAST(substr(?4, i * {TIME_DIGITS} + 1, {TIME_DIGITS}) AS INTEGER), ?5,
        substr(?6, i * {RESULT_ROW_BYTES} + 1, {RESULT_ROW_BYTES}), substr(?7, i * {TAG_BYTES} + 1, {TAG_BYTES})
    FROM line"""  # noqa: S608 - numbers of our own
# One by one, rows in no unbroken run take three times as long.
_INSERT_SCATTERED: Final = _INSERT_REPLICAS.replace(
    "?3 + i", f"?3 + CAST(substr(?8, i * {TIME_DIGITS} + 1, {TIME_DIGITS}) AS INTEGER)"
)


class SqlCipherRows(RowReader):
    """The only writer of a store's rows; reads them as ``RowReader`` does, within its transactions or without.

    Args:
        connection: In autocommit mode, to a file of the newest version; nobody else writes it.
        report: See ``RowReader``.
        draw: Where a new epoch's number comes from (``store_rules.next_epoch``).

    Attributes:
        store_id: 16 bytes, public.
        commit_seq: Number of the last commit.
        events: What this transaction will have made happen once it is committed.
        written_bytes: Of content in this transaction, about.

    Raises:
        StoreDamaged: The store's own line is not to be had.
    """

    def __init__(
        self, connection: dbapi2.Connection, report: Report = ignore_damage, draw: Draw = secrets.randbelow
    ) -> None:
        line = connection.execute("SELECT store_id, integrity_key, commit_seq, sums, audit_head FROM store").fetchone()
        try:
            self.store_id, self._integrity_key, self.commit_seq, sums, self._audit_head = line
            super().__init__(connection, RowTags(self._integrity_key), report)
            self._sums = TableSums.decode(sums)
        except (TypeError, ValueError) as error:
            raise StoreDamaged("the store's own line is not what was written", "run a repair of the store") from error
        self._draw = draw
        self._changed = False
        self._audit_seq = self._last_audit_seq()
        self._epoch: Row | None = None
        self._segment_id: int | None = None
        self._signals = SignalRun(self)
        self.events: list[StoreEvent] = []
        self.written_bytes = 0

    @property
    def integrity_key(self) -> bytes:
        """Key of the tags and of the anchor, 32 bytes; lies in the file and survives rekeying."""
        return bytes(self._integrity_key)

    @property
    def sums(self) -> TableSums:
        """What the tables should add up to."""
        return self._sums.copy()

    @property
    def audit_head(self) -> bytes:
        """Hash of the last audit entry."""
        return bytes(self._audit_head)

    def state_digest(self) -> bytes:
        """Digest of all that the store holds, 16 bytes; that of the last commit outside a transaction."""
        return self.tags.state_digest(self.commit_seq, self._sums, self._audit_head)

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """All that is changed meanwhile, together with sums and commit number, or nothing of it; does not nest."""
        before = (self.commit_seq, self._sums.copy(), self._audit_head, self._audit_seq)
        self._changed, self.events, self.written_bytes = False, [], 0
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self
            if self._changed:
                self.commit_seq += 1
                self.write_sums()
            self.connection.execute("COMMIT")
        except BaseException:
            self.commit_seq, self._sums, self._audit_head, self._audit_seq = before
            self._epoch = self._segment_id = None
            self._signals.forget()
            self.events = []
            # SQLite rolls back by itself after some errors, and refuses to do so twice.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def put(self, table: str, values: Sequence[Value]) -> None:
        """Write a row in place of the one of its key, or as a new one."""
        shape = TABLE_BY_NAME[table]
        old = self.connection.execute(_TAG_BY_KEY[table], self._key(shape, values)).fetchone()
        if old is not None:
            self._sums.remove(table, old[0])
        self.insert(table, values)

    def insert(self, table: str, values: Sequence[Value]) -> None:
        """Write a row whose key is known to be free."""
        tag = self.tags.tag(table, values)
        self.connection.execute(_PUT[table], (*values, tag))
        self._sums.add(table, tag)
        self._changed = True
        self.written_bytes += len(values[-1]) if isinstance(values[-1], bytes) else 0
        if table in ("epoch", "sync"):
            self._epoch = None

    def insert_replicas(self, lines: Sequence[tuple[int, int, int, int, bytes]]) -> None:
        """Write replicas of one device whose keys are known to be free, positions ascending.

        Consecutive ones of the usual length go in with one statement, and others one by one.
        """
        start = 0
        for end in range(1, len(lines) + 1):
            if end < len(lines) and end - start < RESULTS_PER_STATEMENT and lines[end][1] == lines[end - 1][1] + 1:
                continue
            self._insert_replica_run(lines[start:end])
            start = end

    def _insert_replica_run(self, lines: Sequence[tuple[int, int, int, int, bytes]]) -> None:
        tags = self.tags.replica_tags(lines)
        bodies = b"".join([line[4] for line in lines])
        if len(bodies) == len(lines) * RESULT_ROW_BYTES and all(len(line[4]) == RESULT_ROW_BYTES for line in lines):
            alias, first, _, history, _ = lines[0]
            times = decimal_digits(np.array([line[2] for line in lines], np.int64))
            run = (len(lines), alias, first, times, history, bodies, b"".join(tags))
            self.connection.execute(_INSERT_REPLICAS, run)
        else:
            rows = [(*line, tag) for line, tag in zip(lines, tags, strict=True)]
            self.connection.executemany(_PUT["replica"], rows)
        self._sums.add_many("replica", b"".join(tags))
        self._changed = True
        self.written_bytes += len(bodies) + len(lines) * TAG_BYTES

    def insert_replica_run(self, alias: int, epoch: int, history: int, results: ResultRows) -> None:
        """Write replicas of one device and epoch whose keys are known to be free.

        Args:
            alias: The device.
            epoch: The epoch.
            history: In which they came.
            results: The results, counters ascending.
        """
        counters = results.fields["counter"].astype(np.int64)
        times_ms = results.fields["started_at_ms"].astype(np.int64)
        tags = replica_run_tags(self.tags, alias, epoch, history, results)
        n_rows, first = len(results), position_of(epoch, int(counters[0]))
        run = (n_rows, alias, first, decimal_digits(times_ms), history, results.octets, tags)
        if int(counters[-1]) - int(counters[0]) == n_rows - 1:
            self.connection.execute(_INSERT_REPLICAS, run)
        else:
            self.connection.execute(_INSERT_SCATTERED, (*run, decimal_digits(counters - counters[0])))
        self._sums.add_many("replica", tags)
        self._changed = True
        self.written_bytes += n_rows * (RESULT_ROW_BYTES + TAG_BYTES)

    def exchange(self, table: str, old: Sequence[Value], values: Sequence[Value]) -> None:
        """Write a row in place of one of its key that is known: ``put`` without looking it up."""
        self._sums.remove(table, self.tags.tag(table, old))
        self.insert(table, values)

    def delete(self, table: str, key: Sequence[Value]) -> bool:
        """Remove a row; return whether it was there."""
        return self._deleted(table, self.connection.execute(_DELETE[table], key).fetchall()) == 1

    def delete_where(self, table: str, clause: str, parameters: Sequence[Value] = ()) -> int:
        """Remove the rows that ``DELETE FROM table clause`` removes; return how many."""
        statement = f"DELETE FROM {table} {clause} RETURNING tag"  # noqa: S608 - statements of our own
        return self._deleted(table, self.connection.execute(statement, parameters).fetchall())

    def insert_results(self, results: Sequence[WindowResult], epoch: int, first_counter: int) -> None:
        """Write results under consecutive counters; the caller moves the epoch's counter.

        Raises:
            ValueError: One of them does not fit its row.
        """
        for start in range(0, len(results), RESULTS_PER_STATEMENT):
            counter = first_counter + start
            packed = pack_results(results[start : start + RESULTS_PER_STATEMENT], epoch, counter)
            tags = b"".join(self.tags.result_tags(packed.rows))
            self.connection.execute(
                _INSERT_RESULTS,
                (len(packed.rows), position_of(epoch, counter), packed.times, b"".join(packed.rows), tags),
            )
            self._sums.add_many("result", tags)
            self._changed = True
            self.written_bytes += len(packed.rows) * (PACKED_ROW_BYTES + TAG_BYTES)

    def append_results(self, results: Sequence[WindowResult]) -> range:
        """Write results under the next counters of the current epoch; return these.

        Raises:
            ValueError: One of them does not fit its row.
        """
        epoch, last_counter, *_ = self.current_epoch()
        self.insert_results(results, epoch, last_counter + 1)
        self._give_counters(len(results))
        return range(last_counter + 1, last_counter + 1 + len(results))

    def append_windows(self, windows: Sequence[tuple[WindowResult, bytes]]) -> list[WindowResult]:
        """Write results and their signals' stored form under the next counters; return them numbered.

        Raises:
            ValueError: One of them does not fit its row.
        """
        epoch, last_counter, *_ = self.current_epoch()
        numbered = [replace(result, counter=counter) for counter, (result, _) in enumerate(windows, last_counter + 1)]
        for result, (_, body) in zip(numbered, windows, strict=True):
            row = result_row_bytes(result)
            position = position_of(epoch, result.counter)
            self.insert_segment(result.segment_digest, result.started_at_ms, body)
            self.insert("result", (position, result.started_at_ms, row, result.segment_digest))
        self._give_counters(len(numbered))
        return numbered

    def insert_segment(self, digest: bytes, started_at_ms: int, stored: bytes) -> None:
        """Keep a signal, if it is not here yet.

        Args:
            digest: SHA-256 of its canonical bytes.
            started_at_ms: When it began, UTC ms since 1970.
            stored: Its stored form.
        """
        if self.connection.execute("SELECT 1 FROM segment WHERE digest = ?", (digest,)).fetchone() is not None:
            return
        if self._segment_id is None:
            self._segment_id = self.next_id("segment") - 1
        self._segment_id += 1
        first_byte = self._signals.append(stored)
        self.insert("segment", (self._segment_id, digest, 0, started_at_ms, first_byte, len(stored)))

    def remove_segments(self, numbers: Sequence[int]) -> None:
        """Remove signals by their numbers, in ascending order."""
        for start in range(0, len(numbers), KEYS_PER_STATEMENT):
            some = numbers[start : start + KEYS_PER_STATEMENT]
            clause = f"WHERE id IN ({', '.join('?' * len(some))})"
            extents = self.connection.execute(
                f"SELECT id, first_byte, n_bytes FROM segment {clause} ORDER BY id",  # noqa: S608 - marks only
                some,
            ).fetchall()
            self.delete_where("segment", clause, some)
            self._signals.remove((number, (first_byte, n_bytes)) for number, first_byte, n_bytes in extents)
        self._segment_id = None

    def append_beats(self, beats: tuple[int, int, int, bytes]) -> None:
        """Write a run of beats: first and last time in ms, number of beats, packed form."""
        self.insert("beat_run", (self.next_id("beat_run"), *beats))

    def acknowledge_segments(self, digests: Iterable[bytes]) -> int:
        """Note that the server holds these signals; return how many of them are here and were not noted before."""
        noted = 0
        for digest in digests:
            for row in list(self.select("segment", "WHERE digest = ? AND NOT acknowledged", (digest,))):
                self.put("segment", (*row[:2], 1, *row[3:]))
                noted += 1
        return noted

    def forget_acknowledged_segments(self) -> None:
        """Note that no server is known to hold any signal."""
        for row in list(self.select("segment", "WHERE acknowledged")):
            self.put("segment", (*row[:2], 0, *row[3:]))

    def current_epoch(self) -> Row:
        """The epoch that new rows are written in: (epoch, last_counter, acknowledged, first_kept).

        Raises:
            StoreDamaged: It is not what was written.
        """
        if self._epoch is None:
            self._epoch = self.find("epoch", "WHERE epoch = (SELECT epoch FROM sync)")
        if self._epoch is None:
            raise StoreDamaged("the store has lost its epoch", "run a repair of the store")
        return self._epoch

    def state(self) -> StoredState:
        """Where the store stands, for its anchor.

        Raises:
            StoreDamaged: It has lost its epoch.
        """
        epoch, highest = self.connection.execute(
            "SELECT (SELECT epoch FROM sync), (SELECT max(epoch) FROM epoch)"
        ).fetchone()
        if epoch is None:
            raise StoreDamaged("the store has lost its epoch", "run a repair of the store")
        return StoredState(self.store_id, epoch, max(epoch, highest or 0), self.commit_seq, self.state_digest())

    def fork(self, reason: ForkReason, *, at_ms: int, anchored: AnchorRecord | None = None) -> StoreForked:
        """Go on in a new epoch, and put that on the audit trail; return the event, which is also in ``events``.

        Args:
            reason: How it was found out that this is needed.
            at_ms: UTC for the audit trail, ms since 1970.
            anchored: The anchor's record where its code is right: its epoch is taken, too.

        Raises:
            StoreIOError: There is no epoch left.
            StoreDamaged: The row that names the epoch is not to be had.
        """
        new_epoch = next_epoch(highest_known_epoch(self.state(), anchored), self._draw)
        sync = self.get("sync", (1,))
        if sync is None:
            raise StoreDamaged("the store has lost its epoch", "run a repair of the store")
        self.insert("epoch", (new_epoch, 0, 0, 1))
        self.put("sync", (sync[0], new_epoch, *sync[2:]))
        self.append_audit(AuditAction.FORKED, fork_subject(sync[1], new_epoch, reason), at_ms=at_ms)
        forked = StoreForked(sync[1], new_epoch, reason)
        self.events.append(forked)
        return forked

    def append_audit(self, action: AuditAction, subject: str, *, at_ms: int) -> AuditEntry:
        """Append to the audit trail.

        Raises:
            ValueError: The subject is over its limit.
        """
        entry = entry_after(self._audit_seq, self._audit_head, action, subject, at_ms)
        self.insert("audit", (entry.seq, entry.at_ms, int(entry.action), entry.subject, entry.entry_hash))
        self._audit_seq, self._audit_head = entry.seq, entry.entry_hash
        return entry

    def _give_counters(self, n: int) -> None:
        if n:
            old = self.current_epoch()
            new = (old[0], old[1] + n, *old[2:])
            self.exchange("epoch", old, new)
            self._epoch = new

    def next_id(self, table: str) -> int:
        """The number of the next row of a table whose rows are numbered."""
        (last,) = self.connection.execute(f"SELECT ifnull(max(id), 0) FROM {table}").fetchone()  # noqa: S608
        return int(last) + 1

    def widen_sums(self) -> None:
        """Keep sums of all tables from now on: the file has just got those of the newest version."""
        self._sums = self._sums.widened()

    def write_sums(self) -> None:
        """Write sums and commit number; ``transaction`` does so by itself."""
        self.connection.execute(
            "UPDATE store SET commit_seq = ?, sums = ?, audit_head = ?",
            (self.commit_seq, self._sums.encode(), self._audit_head),
        )

    def _deleted(self, table: str, lines: Sequence[tuple[bytes]]) -> int:
        self._sums.remove_many(table, b"".join(tag for (tag,) in lines))
        self._changed = self._changed or bool(lines)
        return len(lines)

    def _last_audit_seq(self) -> int:
        (last,) = self.connection.execute("SELECT ifnull(max(seq), 0) FROM audit").fetchone()
        return int(last)

    @staticmethod
    def _key(shape: Table, values: Sequence[Value]) -> list[Value]:
        return [values[shape.columns.index(column)] for column in shape.key]
