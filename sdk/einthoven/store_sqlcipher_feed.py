"""What ``SqlCipherStore`` does beyond its own results and words: notes, deletions, what came down, and repairs.

A part of that class, apart for its length. It deliberately decides nothing (``store_rules``, R11 on).

Invariants:
    1. As in ``store_sqlcipher``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from einthoven import sqlcipher_feed as feed
from einthoven import sqlcipher_former_notes, sqlcipher_notes, sqlcipher_replicas
from einthoven.ports import Clock, Shares, SyncState
from einthoven.sqlcipher_books import link_line, sync_line
from einthoven.sqlcipher_bucket_repair import to_give
from einthoven.sqlcipher_buckets import bucket_keys, bucket_rows, shares_of
from einthoven.sqlcipher_exchange import take_over_repair
from einthoven.sqlcipher_outbox import read_sync_state
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.sqlcipher_writer import StoreWriter
from einthoven.store_rules import check_limit
from einthoven.store_rules_feed import deleted_subject, note_subject, repaired_subject
from einthoven.store_schema import position_of
from einthoven.store_values import AuditAction
from einthoven_protocol.limits import MAX_COUNTER, MAX_EPOCH
from einthoven_protocol.messages import (
    Document,
    IdentifiedResult,
    NoteRow,
    Owner,
    RepairRequest,
    RepairResponse,
    ResultId,
    Superseded,
    Tombstone,
)

_Value = TypeVar("_Value")


class SqlCipherFeed:
    """The methods of the encrypted ``Store`` that speak of others and of notes."""

    _clock: Clock
    _writer: StoreWriter

    def add_note(self, author: str, text: str, *, at_ms: int) -> NoteRow:
        """See ``Store``.

        Raises:
            InputError: It is over the protocol's limits.
        """

        def add(rows: SqlCipherRows) -> NoteRow:
            row = sqlcipher_notes.add_note(rows, author, text, at_ms=at_ms)
            subject = note_subject(row.epoch, row.counter)
            rows.append_audit(AuditAction.ANNOTATED, subject, at_ms=self._clock.now_ms())
            return row

        return self._writer.write(add)

    def notes(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[NoteRow]:
        """See ``Store``."""
        check_limit(limit)
        return self._read(lambda rows: sqlcipher_notes.read_notes(rows, first_ms, last_ms, limit))

    def say_former_notes(self, author: str) -> int:
        """See ``Store``."""
        if not self._read(sqlcipher_former_notes.any_former):
            return 0

        def say(rows: SqlCipherRows) -> int:
            said = sqlcipher_former_notes.say_again(rows, author)
            for row in said:
                rows.append_audit(
                    AuditAction.ANNOTATED, note_subject(row.epoch, row.counter), at_ms=self._clock.now_ms()
                )
            return len(said)

        return self._writer.write(say)

    def delete(self, row: Tombstone) -> None:
        """See ``Store``.

        Raises:
            InputError: There is no such row here.
        """

        def delete(rows: SqlCipherRows) -> None:
            sqlcipher_notes.delete(rows, row)
            rows.append_audit(AuditAction.ANNOTATED, deleted_subject(row), at_ms=self._clock.now_ms())

        self._writer.write(delete)

    def superseded(self, target: ResultId | None = None) -> Sequence[Superseded]:
        """See ``Store``."""
        return self._read(lambda rows: feed.read_superseded(rows, target))

    def documents(self) -> Sequence[Document]:
        """See ``Store``."""
        return self._read(feed.read_documents)

    def owners(self) -> Sequence[Owner]:
        """See ``Store``."""
        return self._read(feed.read_owners)

    def replicas(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[IdentifiedResult]:
        """See ``Store``."""
        check_limit(limit)
        return self._read(
            lambda rows: sqlcipher_replicas.read_replicas(
                rows, first_ms, last_ms, limit, sqlcipher_notes.own_alias(rows)
            )
        )

    def replica(self, target: ResultId) -> IdentifiedResult | None:
        """See ``Store``."""
        if not (1 <= target.epoch <= MAX_EPOCH and 1 <= target.counter <= MAX_COUNTER):
            return None
        position = position_of(target.epoch, target.counter)
        line = self._read(lambda rows: sqlcipher_replicas.find_replica(rows, target.device_alias, position))
        return None if line is None else sqlcipher_replicas.identified(line)

    def shares(self, owner: int, kind: int) -> Shares:
        """See ``Store``."""

        def read(rows: RowReader) -> Shares:
            sync = sync_line(rows)
            if sync.digest_key is None or sync.digest_device_alias is None:
                return shares_of(())
            keys = bucket_keys(rows, sync.digest_key, sync.digest_device_alias)
            return shares_of(bucket_rows(rows, keys, owner, kind, link_line(rows).history))

        return self._read(read)

    def to_give(self, *, limit: int) -> tuple[tuple[IdentifiedResult, ...], tuple[bytes, ...]]:
        """See ``Store``."""
        check_limit(limit)
        return self._read(lambda rows: to_give(rows, limit))

    def apply_repair(self, request: RepairRequest, response: RepairResponse, *, at_ms: int) -> SyncState:
        """See ``Store`` and R24 of ``store_rules``.

        Raises:
            InputError: A row is over the protocol's limits.
        """

        def apply(rows: SqlCipherRows) -> SyncState:
            before = read_sync_state(rows)
            take_over_repair(rows, request, response, at_ms=at_ms)
            after = read_sync_state(rows)
            if replace(after, last_exchange_ms=None) != replace(before, last_exchange_ms=None):
                rows.append_audit(AuditAction.SYNCED, repaired_subject(request), at_ms=self._clock.now_ms())
            return after

        return self._writer.write(apply)

    def _read(self, read: Callable[[RowReader], _Value]) -> _Value:
        raise NotImplementedError
