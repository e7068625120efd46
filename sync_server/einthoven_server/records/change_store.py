"""The port to where a shard's rows lie: what a group-commit batch loads and writes, feeds, and what a repair reads.

It deliberately decides nothing (``ledger`` does) and knows no SQL. Adapters: ``change_store_postgres``, and
``change_store_memory`` for simulations. One acceptance suite: tests/contracts/test_change_store.py.

Invariants an adapter keeps:
    1. Batches of a shard are strictly one after another, each all or nothing, durable when ``commit`` returns.
    2. A primary key is used once: writing a result, note or superseded write that is held already is an error, never a
       change. Annotations, digests, marks, cursors, documents and tombstones replace.
    3. What ``feed`` gives of a kind is in order of ``commit_seq`` and without holes; everything below a row that it
       gave of that kind was given.
    4. ``read`` sees one moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from einthoven_protocol.messages import Cursor, Digest, IdentifiedResult, Run
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device
from einthoven_server.records.shard_reads import (
    Bucket,
    BucketRows,
    BucketShares,
    FedRow,
    FeedPage,
    FeedQuestion,
    OtherKey,
)
from einthoven_server.records.shard_rows import (
    SERVER_ALIAS,
    SERVER_WORDS,
    AnnotationKey,
    Held,
    IdRun,
    NewAnnotation,
    NewDocument,
    NewNote,
    NewQuarantined,
    NewResults,
    NewSuperseded,
    NewTombstone,
    NonceUse,
    Patient,
    Wanted,
    Written,
)

__all__ = [
    "SERVER_ALIAS",
    "SERVER_WORDS",
    "AnnotationKey",
    "Bucket",
    "BucketRows",
    "BucketShares",
    "ChangeBatch",
    "ChangeStore",
    "FedRow",
    "FeedPage",
    "FeedQuestion",
    "Held",
    "IdRun",
    "NewAnnotation",
    "NewDocument",
    "NewNote",
    "NewQuarantined",
    "NewResults",
    "NewSuperseded",
    "NewTombstone",
    "NonceUse",
    "OtherKey",
    "Patient",
    "Snapshot",
    "Wanted",
    "Written",
]

T = TypeVar("T")


class ChangeBatch(Protocol):
    """One transaction. Called in the order of its methods, each once at most."""

    async def head(self) -> Cursor:
        """Lock the shard and say where it stands."""
        ...

    async def remember(self, nonces: Sequence[NonceUse], now_ms: int) -> list[bool]:
        """Use nonces and forget expired ones; whether each was fresh (of equal ones the first)."""
        ...

    async def load(self, wanted: Wanted) -> Held:
        """What is known of that; what is not there is left out."""
        ...

    async def write(self, written: Written) -> None:
        """Write all of it, and the head's ``commit_seq``."""
        ...

    async def feed(self, asked: Sequence[FeedQuestion], limits: Mapping[str, int]) -> list[list[FedRow]]:
        """For each question, rows in order of commit: of each kind (``FeedPage``'s attributes) up to its limit."""
        ...

    async def append(self, events: Sequence[Event]) -> None:
        """Put events on the audit trail."""
        ...


class Snapshot(Protocol):
    """One moment, to read from."""

    async def position(self) -> Cursor:
        """Where the shard stands."""
        ...

    async def patient(self, patient_id: str, key: PatientKey) -> Patient:
        """Its devices."""
        ...

    async def digests(self, reader: Device) -> dict[tuple[int, int], Digest]:
        """All buckets that the device may see, by (owner alias, ``BucketKind``), its own and 0 among them."""
        ...

    async def shares(self, bucket: Bucket) -> BucketShares:
        """Of all rows. Work in proportion to them."""
        ...

    async def rows(self, bucket: Bucket, results: Sequence[tuple[int, int]], others: Sequence[OtherKey]) -> BucketRows:
        """Rows by name: results by (epoch, counter)."""
        ...

    async def runs(self, bucket: Bucket, runs: Sequence[Run], limit: int) -> tuple[IdentifiedResult, ...]:
        """Results in runs, in order of (epoch, counter), at most ``limit``."""
        ...

    async def page(self, bucket: Bucket, first: int, limit: int) -> BucketRows:
        """Rows other than results, those after the first ``first`` in canonical order, at most ``limit``."""
        ...


class ChangeStore(Protocol):
    """A shard of one tenant."""

    def sealed_results(
        self, key: PatientKey, alias: int, epoch: int, counters: Sequence[int], canonical: Sequence[bytes]
    ) -> list[bytes]:
        """Canonical bytes of results as they will be stored (``PushedRow.stored``). Pure work, fit for a thread."""
        ...

    def opened(self, key: PatientKey, page: Sequence[FedRow]) -> FeedPage:
        """Values of a page of the feed. Pure work, fit for a thread."""
        ...

    async def commit(self, work: Callable[[ChangeBatch], Awaitable[T]]) -> T:
        """Run a batch; ``work`` may run several times.

        Raises:
            Busy: The store does not answer; nothing was changed as far as is known.
        """
        ...

    async def read(self, work: Callable[[Snapshot], Awaitable[T]]) -> T:
        """Read from one moment; ``work`` may run several times.

        Raises:
            Busy: The store does not answer.
        """
        ...

    async def collect_tombstones(self, now_ms: int) -> int:
        """Take tombstones out of the feed that every unrevoked device has read past, and those too old.

        Their names stay: what was deleted does not come back, whoever brings it.

        Returns:
            How many.

        Raises:
            Busy: The store does not answer.
        """
        ...
