"""Buckets and their digests in memory (``store_rules``, R19), computed from all rows each time.

It deliberately keeps no digest, only the keyed hash of a row once it was computed (``Books.hashed``), and is the oracle
of ``sqlcipher_buckets``.

Invariants:
    1. Rows are in canonical order: results by (epoch, counter), then annotations by (target, author); or notes by
       (epoch, counter), then superseded writes.
    2. ``all_digests`` has of every bucket the sum of its ``bucket_rows``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from einthoven.ports import Shares
from einthoven.result_rows import to_row
from einthoven.results import WindowResult
from einthoven.store_memory_books import AnnotationName, Books, NoteName, Place
from einthoven.store_rules_feed import Known, Shown
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
        return [*_results(books, owner), *_annotations(books, owner, key)]
    return [*_notes(books, owner, key), *_superseded(books, owner, key)] if kind == BucketKind.WORDS else []


def all_digests(books: Books) -> dict[tuple[int, int], Digest]:
    """R19, from scratch and in one pass: of all buckets that are not empty, by owner and kind."""
    keys = books.keys()
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for name, share in _shares_of_results(books, keys).items():
        found[name.device_alias, BucketKind.RECORDS].append(share)
    for owner, kind, share in _shares_of_others(books, keys):
        found[owner, kind].append(share)
    return {name: digests.add_all(digests.EMPTY, shares) for name, shares in found.items() if name[0] in keys}


def other_digests(books: Books, held: Mapping[tuple[int, int], Digest]) -> tuple[BucketDigest, ...]:
    """Of all buckets that are not empty, but for the own ``RECORDS``."""
    own = (books.own_alias, BucketKind.RECORDS)
    return tuple(BucketDigest(*name, one.count, one.total) for name, one in sorted(held.items()) if name != own)


def server_digests(books: Books) -> tuple[BucketDigest, ...]:
    """What the server said, the own ``RECORDS`` first."""
    own = (books.own_alias, int(BucketKind.RECORDS))
    said = sorted(books.server_digests.items(), key=lambda item: (item[0] != own, item[0]))
    return tuple(BucketDigest(*name, one.count, one.total) for name, one in said)


def shares(books: Books, owner: int, kind: int) -> Shares:
    """What a repair compares."""
    rows = bucket_rows(books, owner, kind)
    octets = b"".join(row.share.to_bytes(SUM_BYTES, "big") for row in rows)
    ids = [(row.name.epoch, row.name.counter) for row in rows if isinstance(row.name, ResultId)]
    return Shares(np.frombuffer(octets, np.uint8).reshape(-1, SUM_BYTES), np.array(ids, np.int64).reshape(-1, 2))


def _shares_of_results(books: Books, keys: Mapping[int, bytes]) -> dict[ResultId, int]:
    """Of results whose owner's key is known; and of dropped ones."""
    found = dict(books.dropped)
    hashed, own = books.hashed, books.own_alias
    for name, kept in books.replicas.items():
        if kept.known and (key := keys.get(name.device_alias)) is not None:
            found[name] = hashed.share(digests.result_sum, key, name.device_alias, name.epoch, kept.row)
    if (key := keys.get(own)) is not None:
        for epoch, result in books.held_by_server():
            found[ResultId(own, epoch, result.counter)] = hashed.share(_own_sum, key, own, epoch, result)
    return found


def _own_sum(key: bytes, owner: int, epoch: int, result: WindowResult) -> int:
    return digests.result_sum(key, owner, epoch, to_row(result))


def _shares_of_others(books: Books, keys: Mapping[int, bytes]) -> Iterator[tuple[int, BucketKind, int]]:
    """Of all rows but results whose owner's key is known: owner, kind and share."""
    hashed = books.hashed
    for (target, _), row in books.known.items():
        if (key := keys.get(target.device_alias)) is not None:
            yield target.device_alias, BucketKind.RECORDS, hashed.share(digests.annotation_sum, key, row)
    for name, note in _held_notes(books).items():
        if (key := keys.get(name[0])) is not None:
            yield name[0], BucketKind.WORDS, hashed.share(digests.note_sum, key, note)
    for write, known in books.superseded.items():
        if known and (key := keys.get(write.target.device_alias)) is not None:
            yield write.target.device_alias, BucketKind.WORDS, hashed.share(digests.superseded_sum, key, write)


def _results(books: Books, owner: int) -> list[BucketRow]:
    found = _shares_of_results(books, books.keys())
    return [BucketRow(name, share) for name, share in sorted(found.items()) if name.device_alias == owner]


def _annotations(books: Books, owner: int, key: bytes) -> list[BucketRow]:
    return [
        BucketRow(name, books.hashed.share(digests.annotation_sum, key, row), row)
        for name, row in sorted(books.known.items())
        if name[0].device_alias == owner
    ]


def _held_notes(books: Books) -> dict[NoteName, NoteRow]:
    found = {name: kept.row for name, kept in books.notes.items() if kept.known is Known.HELD}
    return found | {
        (books.own_alias, *place): books.signed(note.row)
        for place, note in books.own_notes.items()
        if holds_note(books, place)
    }


def _notes(books: Books, owner: int, key: bytes) -> list[BucketRow]:
    return [
        BucketRow(name, books.hashed.share(digests.note_sum, key, row), row)
        for name, row in sorted(_held_notes(books).items())
        if name[0] == owner
    ]


def _superseded(books: Books, owner: int, key: bytes) -> list[BucketRow]:
    rows = sorted(row for row, known in books.superseded.items() if known and row.target.device_alias == owner)
    return [BucketRow(row, books.hashed.share(digests.superseded_sum, key, row), row) for row in rows]


def holds_note(books: Books, place: Place) -> bool:
    """R13: whether the server holds the own note at this place."""
    note = books.own_notes.get(place)
    settled = place[1] <= books.notes_acknowledged.get(place[0], 0)
    return settled and note is not None and not note.refused and note.shown is not Shown.GONE
