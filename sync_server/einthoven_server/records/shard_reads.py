"""What is asked of a shard, and what it shows: the feed, and the buckets that a repair compares. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.messages import (
    AnnotationRow,
    Document,
    IdentifiedResult,
    NoteRow,
    ResultId,
    RowKind,
    Superseded,
    Tombstone,
)
from einthoven_server.identity.callers import Device


class FeedQuestion(NamedTuple):
    """What a device asks of the feed.

    Attributes:
        device: Who asks.
        epoch: What it wrote itself in this one is left out.
        since: Rows with a higher ``commit_seq``.
        everything: All kinds, of the whole patient; else only annotations on its own results.
    """

    device: Device
    epoch: int
    since: int
    everything: bool


class FedRow(NamedTuple):
    """A row of the feed as the adapter has it; ``ChangeStore.opened`` makes values of it.

    Attributes:
        commit_seq: Its place.
        kind: Attribute of ``FeedPage`` that it belongs to.
        octets: About how many bytes it takes in a message.
        stored: The adapter's.
    """

    commit_seq: int
    kind: str
    octets: int
    stored: object


class FeedPage(NamedTuple):
    """Rows of the feed as values, each kind in order of commit."""

    results: Sequence[IdentifiedResult] = ()
    annotations: tuple[AnnotationRow, ...] = ()
    superseded: tuple[Superseded, ...] = ()
    notes: tuple[NoteRow, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    documents: tuple[Document, ...] = ()


class Bucket(NamedTuple):
    """One bucket as one device sees it.

    Attributes:
        reader: Who asks; of the owner's patient. Its key sums the server's notes.
        owner: Whose rows: alias of a device of that patient, or 0.
        kind: ``BucketKind``.
    """

    reader: Device
    owner: int
    kind: int


OtherKey: TypeAlias = tuple[RowKind | None, ResultId, str, int, int, str]
"""Names a row of a bucket that is no result: (``ANNOTATION``, target, author, 0, 0, ""), (``NOTE``, identity, "", 0, 0,
""), or of a superseded write (``None``, target, author, field, hlc, value). In canonical order: annotations by
(target, author); notes by identity, then superseded writes by all."""


class BucketShares(NamedTuple):
    """What a repair of one bucket compares, results first, then the others, both in canonical order.

    Attributes:
        shares: uint8 [n, 16], big-endian, under the owner's key (the reader's for the server's notes).
        results: int64 [n_results, 2]: epoch and counter of the first ``n_results`` rows.
        others: Names of the rest.
    """

    shares: NDArray[np.uint8]
    results: NDArray[np.int64]
    others: tuple[OtherKey, ...]


class BucketRows(NamedTuple):
    """Rows of a bucket, each kind in canonical order; what is not there is left out."""

    results: tuple[IdentifiedResult, ...] = ()
    annotations: tuple[AnnotationRow, ...] = ()
    notes: tuple[NoteRow, ...] = ()
    superseded: tuple[Superseded, ...] = ()
