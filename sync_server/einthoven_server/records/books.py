"""What a batch works on: what was loaded, what is to be written, and the bookkeeping between them. Pure.

It deliberately decides nothing of what is taken; ``ledger`` and its rules do.

Invariants:
    1. Every row written gets the next commit sequence.
    2. A digest changes with exactly the rows that are written or removed.
    3. What is decided later in a batch sees what was decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from einthoven_protocol import digests
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import BucketKind, Digest, NoteRow, ResultId, RowKind, Tombstone
from einthoven_server.identity.callers import Device
from einthoven_server.records.change_store import (
    SERVER_ALIAS,
    SERVER_WORDS,
    Held,
    NewResults,
    NewTombstone,
    Patient,
    Written,
)
from einthoven_server.records.changes import PushedRows

_MODULUS = 1 << (8 * SUM_BYTES)
_NOBODY = Patient((), 0)
_Change: TypeAlias = Callable[[int, int, int], None]


def identity_of(row: Tombstone) -> Tombstone:
    """What a tombstone or a deletion names, whatever time it goes up to."""
    return Tombstone(row.kind, row.device_alias, row.epoch, row.counter, row.author)


@dataclass(slots=True)
class Books:
    """Working copy of what a batch touches.

    Attributes:
        shard_epoch: Counts the shard's histories.
        commit_seq: Last commit sequence given.
        last_hlc: Last hybrid logical time this writer gave.
        held: What was loaded, kept up to date.
        written: What is to be written.
        singled: (alias, epoch) of results that are not all new: some are held, put aside or deleted one by one.
    """

    shard_epoch: int
    commit_seq: int
    last_hlc: int
    held: Held = field(default_factory=Held)
    written: Written = field(default_factory=Written)
    singled: set[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        held = self.held
        self.singled = {(one.device_alias, one.epoch) for one in (*held.results, *held.quarantined)}
        self.singled |= {(row.device_alias, row.epoch) for row in held.tombstones if row.kind == RowKind.RESULT}

    def next_seq(self) -> int:
        """The next commit sequence."""
        self.commit_seq += 1
        return self.commit_seq

    def digest(self, alias: int, kind: int) -> Digest:
        """The digest of a bucket as it is now."""
        return self.held.digests.get((alias, kind), digests.EMPTY)

    def add(self, alias: int, kind: int, share: int, count: int = 1) -> None:
        """Put rows into a bucket: their number and the sum of their shares."""
        before = self.digest(alias, kind)
        self._put(alias, kind, Digest(before.count + count, (before.total + share) % _MODULUS))

    def remove(self, alias: int, kind: int, share: int) -> None:
        """Take a row out of a bucket."""
        self._put(alias, kind, digests.remove(self.digest(alias, kind), share))

    def replace(self, alias: int, kind: int, old: int, new: int) -> None:
        """Put one row for another."""
        before = self.digest(alias, kind)
        self._put(alias, kind, Digest(before.count, (before.total - old + new) % _MODULUS))

    def stored_share(self, result: ResultId) -> int | None:
        """The share of a stored result, ``None`` if it is not there."""
        share = self.held.results.get(result)
        if share is None:
            for first, shares in self.held.runs.get((result.device_alias, result.epoch), ()):
                if 0 <= result.counter - first < len(shares):
                    return shares[result.counter - first]
        return share

    def take_results(self, device: Device, epoch: int, rows: PushedRows, *, whole: bool = False) -> None:
        """Take accepted rows of a device in.

        Args:
            device: Whose they are.
            epoch: Of which epoch.
            rows: The rows; one sum for all, because there are thousands.
            whole: Whether their counters follow each other.
        """
        if not rows:
            return
        run, seqs = (device.alias, epoch), range(self.commit_seq + 1, self.commit_seq + 1 + len(rows))
        if whole:
            self.held.runs.setdefault(run, []).append((rows.counters[0], rows.shares))
        else:
            self.singled.add(run)
            for counter, share in zip(rows.counters, rows.shares, strict=True):
                self.held.results[ResultId(*run, counter)] = share
        self.written.results.append(NewResults(device, epoch, rows, seqs))
        self.commit_seq = seqs[-1]
        self.add(device.alias, BucketKind.RECORDS, sum(rows.shares), len(rows))

    def drop_result(self, result: ResultId, share: int) -> None:
        """Take a stored result out, whether it was there before or came in this batch."""
        run = (result.device_alias, result.epoch)
        self.singled.add(run)
        for first, shares in self.held.runs.pop(run, ()):
            for counter, one in enumerate(shares, first):
                self.held.results[ResultId(*run, counter)] = one
        del self.held.results[result]
        self.written.results = [
            new.chosen([counter != result.counter for counter in new.rows.counters])
            if (new.device.alias, new.epoch) == run
            else new
            for new in self.written.results
        ]
        self.written.gone_results.add(result)
        self.remove(result.device_alias, BucketKind.RECORDS, share)

    def sync_key(self, patient_id: str, alias: int) -> bytes | None:
        """The key of a device's rows, if the device is this patient's."""
        patient = self.held.patients.get(patient_id, _NOBODY)
        return next((owner.sync_key for owner in patient.owners if owner.device_alias == alias), None)

    def add_note(self, patient_id: str, row: NoteRow) -> int:
        """Sum a note; return its share, 0 where every reader has its own."""
        return self._sum_note(patient_id, row, self.add)

    def remove_note(self, patient_id: str, row: NoteRow) -> None:
        """Take a note out of the sums."""
        self._sum_note(patient_id, row, self.remove)

    def bury(self, patient_id: str, row: Tombstone, hlc: int, now_ms: int) -> None:
        """Leave a tombstone, or a later one; ``row`` names what is gone, without a time."""
        self.held.tombstones[row] = hlc
        self.written.tombstones[row] = NewTombstone(row, patient_id, hlc, self.next_seq(), now_ms)

    def sum_server_notes(self, readers: Iterable[tuple[int, str]]) -> None:
        """Begin the sums of the server's notes that a reader asks for the first time."""
        for alias, patient_id in readers:
            key = self.sync_key(patient_id, alias)
            if key is None or (alias, SERVER_WORDS) in self.held.digests:
                continue
            rows = self.held.server_notes.get(patient_id, ())
            total = sum(digests.note_sum(key, row) for row in rows) % _MODULUS
            self._put(alias, SERVER_WORDS, Digest(len(rows), total))

    def _sum_note(self, patient_id: str, row: NoteRow, change: _Change) -> int:
        if row.device_alias != SERVER_ALIAS:
            key = self.sync_key(patient_id, row.device_alias)
            share = 0 if key is None else digests.note_sum(key, row)
            change(row.device_alias, BucketKind.WORDS, share)
            return share
        for owner in self.held.patients.get(patient_id, _NOBODY).owners:
            # A sum that was never begun is computed from all notes when it is asked for.
            if (owner.device_alias, SERVER_WORDS) in self.held.digests:
                change(owner.device_alias, SERVER_WORDS, digests.note_sum(owner.sync_key, row))
        return 0

    def _put(self, alias: int, kind: int, digest: Digest) -> None:
        self.held.digests[alias, kind] = self.written.digests[alias, kind] = digest
