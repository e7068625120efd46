"""Running digests of the buckets in the encrypted store (``store_rules``, R19), and the rows that they are of.

Whoever changes what the server is known to hold says so here, and the digests are written once at the end of the
transaction. It deliberately decides nothing, and writes no row but those of ``bucket``.

Invariants:
    1. A digest is that of the rows that ``bucket_rows`` gives; work is in proportion to what is changed, but for a new
       key, which makes it be computed anew.
    2. Rows are in canonical order: results by (epoch, counter), then annotations by (target, author); or notes by
       (epoch, counter), then superseded writes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from einthoven.ports import Shares
from einthoven.sqlcipher_books import AnnotationLine, epoch_lines, results_in
from einthoven.sqlcipher_row_reading import RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_rules_feed import SERVER_ALIAS, Known, Shown
from einthoven.store_schema import epoch_and_counter, position_of
from einthoven_protocol import digests
from einthoven_protocol.canonical import decode_annotation_row, decode_note_row, decode_superseded_row
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import AnnotationRow, BucketDigest, BucketKind, Digest, NoteRow, Superseded

SHARES_AT_ONCE = 4_096
"""Results whose shares are computed together."""
_MODULUS = 1 << 8 * SUM_BYTES


class BucketRow(NamedTuple):
    """A row of a bucket: of a result where it stands, of anything else the row itself."""

    share: int
    position: int
    other: AnnotationRow | NoteRow | Superseded | None = None


class BucketKeys(NamedTuple):
    """What shares are keyed with."""

    own_key: bytes
    own_alias: int
    owners: dict[int, bytes]

    def of(self, owner: int) -> bytes | None:
        """An owner's key, if it is known."""
        return self.own_key if owner in (SERVER_ALIAS, self.own_alias) else self.owners.get(owner)


class Buckets:
    """The digests while they change.

    Args:
        rows: Writes.
        keys: Of all owners that are known.
        own: Digest of the own ``RECORDS`` now.
    """

    def __init__(self, rows: SqlCipherRows, keys: BucketKeys, own: Digest) -> None:
        self._rows = rows
        self.keys = keys
        self._digests = {(keys.own_alias, int(BucketKind.RECORDS)): own}
        self.unknown = False

    @property
    def own(self) -> Digest:
        """Of this device's ``RECORDS``."""
        return self._digests[self.keys.own_alias, BucketKind.RECORDS]

    def digest(self, owner: int, kind: int) -> Digest:
        """Of any bucket."""
        held = self._digests.get((owner, kind))
        if held is None:
            row = self._rows.get("bucket", (owner, kind))
            held = digests.EMPTY if row is None else Digest(row[2], int.from_bytes(row[3], "big"))
            self._digests[owner, kind] = held
        return held

    def change(self, owner: int, kind: int, shares: Iterable[int], sign: int = 1) -> None:
        """Count rows in, or out."""
        held, values = self.digest(owner, kind), list(shares)
        total = (held.total + sign * sum(values)) % _MODULUS
        self._digests[owner, kind] = Digest(held.count + sign * len(values), total)

    def results(self, owner: int, bodies: Iterable[tuple[int, bytes]], sign: int = 1) -> None:
        """Count results in or out: position and canonical bytes of each."""
        key = self._key(owner)
        if key is not None:
            self.change(owner, BucketKind.RECORDS, result_shares(key, owner, bodies), sign)

    def result_run(self, owner: int, epoch: int, bodies: Sequence[bytes]) -> None:
        """Count results of one epoch in: canonical bytes of each."""
        key = self._key(owner)
        if key is not None:
            held, more = self.digest(owner, BucketKind.RECORDS), digests.results_digest(key, owner, epoch, bodies)
            self._digests[owner, BucketKind.RECORDS] = Digest(
                held.count + more.count, (held.total + more.total) % _MODULUS
            )

    def annotation(self, row: AnnotationRow, sign: int = 1) -> None:
        """Count an annotation in or out."""
        key = self._key(row.target.device_alias)
        if key is not None:
            self.change(row.target.device_alias, BucketKind.RECORDS, [digests.annotation_sum(key, row)], sign)

    def note(self, row: NoteRow, sign: int = 1) -> None:
        """Count a note in or out."""
        key = self._key(row.device_alias)
        if key is not None:
            self.change(row.device_alias, BucketKind.WORDS, [digests.note_sum(key, row)], sign)

    def superseded(self, row: Superseded, sign: int = 1) -> None:
        """Count a superseded write in or out."""
        key = self._key(row.target.device_alias)
        if key is not None:
            self.change(row.target.device_alias, BucketKind.WORDS, [digests.superseded_sum(key, row)], sign)

    def set(self, owner: int, kind: int, digest: Digest) -> None:
        """Put another digest in place."""
        self._digests[owner, kind] = digest

    def compute(self, owner: int, history: int) -> None:
        """Compute an owner's digests anew."""
        for kind in BucketKind:
            total = digests.EMPTY
            for row in bucket_rows(self._rows, self.keys, owner, kind, history):
                total = digests.add(total, row.share)
            self.set(owner, kind, total)

    def write(self) -> None:
        """Write the digests that changed; that of the own ``RECORDS`` is the caller's."""
        for name, now in self._digests.items():
            if name == (self.keys.own_alias, BucketKind.RECORDS):
                continue
            line = self._rows.get("bucket", name)
            there = (0, bytes(SUM_BYTES), None, None) if line is None else line[2:]
            values = (now.count, now.total.to_bytes(SUM_BYTES, "big"), *there[2:])
            if values == there:
                continue
            if not now.count and there[2] is None:
                self._rows.delete("bucket", name)
            else:
                self._rows.put("bucket", (*name, *values))

    def _key(self, owner: int) -> bytes | None:
        key = self.keys.of(owner)
        self.unknown = self.unknown or key is None
        return key


def bucket_keys(rows: RowReader, key: bytes, own_alias: int) -> BucketKeys:
    """The keys of all owners that are known."""
    return BucketKeys(key, own_alias, {row[0]: bytes(row[1]) for row in rows.select("owner")})


def result_shares(key: bytes, owner: int, bodies: Iterable[tuple[int, bytes]]) -> list[int]:
    """Shares of results, in the order in which they come; quick where those of one epoch come together."""
    shares: list[int] = []
    for epoch, some in groupby(bodies, lambda item: item[0] >> 32):
        shares += digests.result_sums(key, owner, epoch, [body for _, body in some])
    return shares


def other_digests(rows: RowReader) -> tuple[BucketDigest, ...]:
    """Of all buckets that are not empty, but for the own ``RECORDS``."""
    found = rows.select("bucket", "WHERE count ORDER BY device_alias, kind")
    return tuple(BucketDigest(row[0], row[1], row[2], int.from_bytes(row[3], "big")) for row in found)


def said_digests(rows: RowReader) -> tuple[BucketDigest, ...]:
    """What the server said of the same."""
    found = rows.select("bucket", "WHERE server_count IS NOT NULL ORDER BY device_alias, kind")
    return tuple(BucketDigest(row[0], row[1], row[4], int.from_bytes(row[5], "big")) for row in found)


def put_said(rows: SqlCipherRows, said: dict[tuple[int, int], Digest]) -> None:
    """Keep what the server said of all buckets but the own ``RECORDS``; what it did not name is empty there."""
    lines = {(row[0], row[1]): row for row in rows.select("bucket")}
    for name in sorted({*lines, *said}):
        line = lines.get(name, (*name, 0, bytes(SUM_BYTES), None, None))
        one = said.get(name)
        now = (None, None) if one is None else (one.count, one.total.to_bytes(SUM_BYTES, "big"))
        if line[4:] == now:
            continue
        if one is None and not line[2]:
            rows.delete("bucket", name)
        else:
            rows.put("bucket", (*line[:4], *now))


def bucket_rows(rows: RowReader, keys: BucketKeys, owner: int, kind: int, history: int) -> Iterator[BucketRow]:
    """R19, in canonical order.

    Args:
        rows: Reads.
        keys: Of the owners.
        owner: Whose rows.
        kind: ``BucketKind``.
        history: The one in which replicas are known to be held (``LinkLine.history``).
    """
    key = keys.of(owner)
    if key is None:
        return
    if kind == BucketKind.RECORDS:
        found = [_replicas(rows, key, owner, history), _dropped(rows, owner)]
        if owner == keys.own_alias:
            found.append(_own_results(rows, key, owner))
        yield from heapq.merge(*found, key=lambda row: row.position)
        yield from _annotations(rows, key, owner)
    elif kind == BucketKind.WORDS:
        notes = list(_notes(rows, owner, own=owner == keys.own_alias))
        for note in sorted(notes, key=lambda row: (row.epoch, row.counter)):
            yield BucketRow(digests.note_sum(key, note), 0, note)
        found_rows = rows.select("superseded", "WHERE known AND device_alias = ?", (owner,))
        for superseded in sorted(decode_superseded_row(row[5]) for row in found_rows):
            yield BucketRow(digests.superseded_sum(key, superseded), 0, superseded)


def shares_of(found: Iterable[BucketRow]) -> Shares:
    """What a repair compares."""
    rows = list(found)
    octets = b"".join(row.share.to_bytes(SUM_BYTES, "big") for row in rows)
    ids = [epoch_and_counter(row.position) for row in rows if row.other is None]
    return Shares(np.frombuffer(octets, np.uint8).reshape(-1, SUM_BYTES), np.array(ids, np.int64).reshape(-1, 2))


def own_held(rows: RowReader) -> Iterator[tuple[int, bytes]]:
    """Position and body of the own results that the server holds (R1, R14)."""
    left_out = {position_of(row[0], row[1]) for row in rows.select("refusal")}
    left_out |= {row[0] for row in rows.select("to_give")}
    for line in epoch_lines(rows):
        for position, _, body, _ in results_in(rows, line.epoch, 1, line.acknowledged):
            if position not in left_out:
                yield position, body
        ahead = rows.select(
            "result",
            "WHERE position BETWEEN ? AND ? AND position IN (SELECT position FROM alert_sent WHERE held) ORDER BY 1",
            (position_of(line.epoch, line.acknowledged + 1), position_of(line.epoch, line.last_counter)),
        )
        yield from ((row[0], row[2]) for row in ahead)


def _own_results(rows: RowReader, key: bytes, owner: int) -> Iterator[BucketRow]:
    return _shared(key, owner, own_held(rows))


def _replicas(rows: RowReader, key: bytes, owner: int, history: int) -> Iterator[BucketRow]:
    clause = "WHERE device_alias = ? AND history = ? ORDER BY position"
    return _shared(key, owner, ((row[1], row[4]) for row in rows.select("replica", clause, (owner, history))))


def _dropped(rows: RowReader, owner: int) -> Iterator[BucketRow]:
    for _, first, _, shares in rows.select("dropped_run", "WHERE device_alias = ? ORDER BY first_position", (owner,)):
        for number in range(len(shares) // SUM_BYTES):
            share = int.from_bytes(shares[number * SUM_BYTES : (number + 1) * SUM_BYTES], "big")
            yield BucketRow(share, first + number)


def _shared(key: bytes, owner: int, found: Iterator[tuple[int, bytes]]) -> Iterator[BucketRow]:
    batch: list[tuple[int, bytes]] = []
    for item in found:
        batch.append(item)
        if len(batch) == SHARES_AT_ONCE:
            yield from _with_shares(key, owner, batch)
            batch = []
    yield from _with_shares(key, owner, batch)


def _with_shares(key: bytes, owner: int, batch: list[tuple[int, bytes]]) -> Iterator[BucketRow]:
    for share, (position, _) in zip(result_shares(key, owner, batch), batch, strict=True):
        yield BucketRow(share, position)


def _annotations(rows: RowReader, key: bytes, owner: int) -> Iterator[BucketRow]:
    clause = "WHERE known_body IS NOT NULL AND device_alias = ? ORDER BY device_alias, epoch, counter, author"
    for row in rows.select("annotation", clause, (owner,)):
        known = AnnotationLine(*row).known_body or b""
        annotation = decode_annotation_row(known)
        yield BucketRow(digests.annotation_sum(key, annotation), 0, annotation)


def _notes(rows: RowReader, owner: int, *, own: bool) -> Iterator[NoteRow]:
    for row in rows.select("note", "WHERE device_alias = ? AND known = ?", (owner, int(Known.HELD))):
        yield decode_note_row(row[6])
    if own:
        clause = """WHERE NOT refused AND shown != ? AND position & 4294967295 <=
            (SELECT acknowledged FROM note_log WHERE epoch = position >> 32)"""
        for position, _, _, _, body in rows.select("own_note", clause, (int(Shown.GONE),)):
            yield signed(body, owner, position)


def signed(body: bytes, own_alias: int, position: int) -> NoteRow:
    """An own note with this device's alias.

    Raises:
        ValueError: It is not the note of this position.
    """
    row = decode_note_row(body)
    if (row.epoch, row.counter) != epoch_and_counter(position):
        raise ValueError("not the note of this counter")
    return NoteRow(
        device_alias=own_alias,
        epoch=row.epoch,
        counter=row.counter,
        author=row.author,
        at_ms=row.at_ms,
        text=row.text,
        extra=row.extra,
    )
