"""Buckets and their digests in memory (``store_rules``, R19), computed from all rows each time.

It deliberately keeps nothing, and is the oracle of ``sqlcipher_buckets``.

Invariants:
    1. Rows are in canonical order: results by (epoch, counter), then annotations by (target, author); or notes by
       (epoch, counter), then superseded writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from einthoven.ports import Shares
from einthoven.result_rows import to_row
from einthoven.store_memory_books import AnnotationName, Books, NoteName, Place
from einthoven.store_rules_feed import SERVER_ALIAS, Known, Shown
from einthoven_protocol import digests
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import AnnotationRow, BucketDigest, BucketKind, Digest, NoteRow, ResultId, Superseded

Name = ResultId | AnnotationName | NoteName | Superseded
"""Of a row of a bucket."""


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A row of a bucket.

    Attributes:
        name: Its name.
        share: Of the digest.
        other: The row itself, if it is no result.
    """

    name: Name
    share: int
    other: AnnotationRow | NoteRow | Superseded | None = None


def bucket_rows(books: Books, owner: int, kind: int) -> list[BucketRow]:
    """R19, in canonical order."""
    key = books.key_of(owner)
    if key is None:
        return []
    if kind == BucketKind.RECORDS:
        return [*_results(books, owner, key), *_annotations(books, owner, key)]
    return [*_notes(books, owner, key), *_superseded(books, owner, key)] if kind == BucketKind.WORDS else []


def bucket_digest(books: Books, owner: int, kind: int) -> Digest:
    """From scratch."""
    total = digests.EMPTY
    for row in bucket_rows(books, owner, kind):
        total = digests.add(total, row.share)
    return total


def other_digests(books: Books) -> tuple[BucketDigest, ...]:
    """Of all buckets that are not empty, but for the own ``RECORDS``."""
    own = (books.own_alias, BucketKind.RECORDS)
    owners = sorted({books.own_alias, SERVER_ALIAS, *books.owners})
    named = [(owner, kind) for owner in owners for kind in BucketKind if (owner, kind) != own]
    digested = [(*name, bucket_digest(books, *name)) for name in named]
    return tuple(BucketDigest(owner, kind, one.count, one.total) for owner, kind, one in digested if one.count)


def server_digests(books: Books) -> tuple[BucketDigest, ...]:
    """What the server said, the own ``RECORDS`` first."""
    own = (books.own_alias, int(BucketKind.RECORDS))
    said = sorted(books.server_digests.items(), key=lambda item: (item[0] != own, item[0]))
    return tuple(BucketDigest(*name, one.count, one.total) for name, one in said)


def shares(books: Books, owner: int, kind: int) -> Shares:
    """What a repair compares."""
    rows = bucket_rows(books, owner, kind)
    octets = b"".join(row.share.to_bytes(SUM_BYTES, "big") for row in rows)
    return Shares(
        np.frombuffer(octets, np.uint8).reshape(-1, SUM_BYTES), sum(isinstance(row.name, ResultId) for row in rows)
    )


def _results(books: Books, owner: int, key: bytes) -> list[BucketRow]:
    found = {name: share for name, share in books.dropped.items() if name.device_alias == owner}
    for name, kept in books.replicas.items():
        if name.device_alias == owner and kept.known:
            found[name] = digests.result_sum(key, owner, name.epoch, kept.row)
    if owner == books.own_alias:
        for epoch, result in books.held_by_server():
            found[ResultId(owner, epoch, result.counter)] = digests.result_sum(key, owner, epoch, to_row(result))
    return [BucketRow(name, share) for name, share in sorted(found.items())]


def _annotations(books: Books, owner: int, key: bytes) -> list[BucketRow]:
    return [
        BucketRow(name, digests.annotation_sum(key, row), row)
        for name, row in sorted(books.known.items())
        if name[0].device_alias == owner
    ]


def _notes(books: Books, owner: int, key: bytes) -> list[BucketRow]:
    found = {name: kept.row for name, kept in books.notes.items() if kept.known is Known.HELD and name[0] == owner}
    if owner == books.own_alias:
        found |= {
            (owner, *place): books.signed(note.row)
            for place, note in books.own_notes.items()
            if holds_note(books, place)
        }
    return [BucketRow(name, digests.note_sum(key, row), row) for name, row in sorted(found.items())]


def _superseded(books: Books, owner: int, key: bytes) -> list[BucketRow]:
    rows = sorted(row for row, known in books.superseded.items() if known and row.target.device_alias == owner)
    return [BucketRow(row, digests.superseded_sum(key, row), row) for row in rows]


def holds_note(books: Books, place: Place) -> bool:
    """R13: whether the server holds the own note at this place."""
    note = books.own_notes.get(place)
    settled = place[1] <= books.notes_acknowledged.get(place[0], 0)
    return settled and note is not None and not note.refused and note.shown is not Shown.GONE
