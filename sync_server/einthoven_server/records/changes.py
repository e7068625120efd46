"""What the shard's writer is asked for, one value a request. Pure.

They deliberately hold what was verified already: signatures, seals and permissions are ``sync``'s and the guard's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple, TypeAlias

from einthoven_protocol.messages import (
    Document,
    ExchangeRequest,
    RejectReason,
    ResultId,
    Tombstone,
)
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.identity.callers import Device


class Nonce(NamedTuple):
    """What makes a request count once.

    Attributes:
        value: As signed.
        expires_at_ms: Until when it is remembered, ms since 1970.
    """

    value: str
    expires_at_ms: int


class PushedRow(NamedTuple):
    """A result as it was pushed.

    Attributes:
        counter: Its counter.
        canonical: Its canonical bytes.
        share: Its share of the device's digest.
        fault: What is wrong with it, ``NONE`` for nothing.
        stored: As the store will keep it (``ChangeStore.sealed_results``).
    """

    counter: int
    canonical: bytes
    share: int
    fault: RejectReason
    stored: bytes = b""


@dataclass(frozen=True, slots=True)
class PushedRows:
    """Results of one device and epoch, ascending, as columns: a batch has tens of thousands, mostly decided alike.

    Attributes:
        counters: Their counters.
        canonical: As ``PushedRow`` has them, and so all further ones.
        shares: Shares of the device's digest.
        faults: ``NONE`` for nothing.
        stored: As the store will keep them.
    """

    counters: Sequence[int]
    canonical: Sequence[bytes]
    shares: Sequence[int]
    faults: Sequence[RejectReason]
    stored: Sequence[bytes]

    @classmethod
    def of(cls, rows: Iterable[PushedRow]) -> PushedRows:
        """Rows as columns."""
        counters, canonical, shares, faults, stored = zip(*rows, strict=True) if (rows := tuple(rows)) else ((),) * 5
        return cls(counters, canonical, shares, faults, stored)

    def __len__(self) -> int:
        return len(self.counters)

    def __iter__(self) -> Iterator[PushedRow]:
        return map(PushedRow, self.counters, self.canonical, self.shares, self.faults, self.stored)

    def chosen(self, keep: Sequence[bool]) -> PushedRows:
        """Those that are to be kept."""
        return PushedRows.of(compress(self, keep))


NO_ROWS = PushedRows((), (), (), (), ())


@dataclass(frozen=True, slots=True)
class Push:
    """One device's exchange, verified and ready to be written.

    Attributes:
        device: Who pushed.
        request: What it sent.
        rows: Its results.
        nonce: To be used once.
        nonce_expires_at_ms: Until when it is remembered.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
        alerts: Its results that go ahead.
    """

    device: Device
    request: ExchangeRequest
    rows: PushedRows
    nonce: str
    nonce_expires_at_ms: int
    event: Event
    now_ms: int
    alerts: PushedRows = NO_ROWS


@dataclass(frozen=True, slots=True)
class Give:
    """Own results that a device gives back in a repair, signed as such.

    Attributes:
        device: Whose they are.
        rows: By identity, in the request's order.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
    """

    device: Device
    rows: tuple[tuple[ResultId, PushedRow], ...]
    event: Event
    now_ms: int


@dataclass(frozen=True, slots=True)
class Annotate:
    """A clinician's words on one result; ``None`` leaves a field as it is.

    Attributes:
        device: The device whose result it is, for its keys.
        target: The result.
        author: Principal id.
        rhythm: Rhythm class as text.
        comment: Free text.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
    """

    device: Device
    target: ResultId
    author: str
    rhythm: str | None
    comment: str | None
    event: Event
    now_ms: int


@dataclass(frozen=True, slots=True)
class WriteNote:
    """A note of somebody at the console; it gets the server's alias 0.

    Attributes:
        patient_id: Whose diary.
        patient_key: The patient's data key.
        author: Principal id.
        at_ms: What moment it speaks of, ms since 1970.
        text: At most 2,000 characters.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
    """

    patient_id: str
    patient_key: PatientKey
    author: str
    at_ms: int
    text: str
    event: Event
    now_ms: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Rows of one patient that are to be gone for good, whoever wrote them (a clinician's own, retention, erasure).

    Attributes:
        patient_id: Whose.
        patient_key: The patient's data key.
        rows: Which; a result takes what was said of it along.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
    """

    patient_id: str
    patient_key: PatientKey
    rows: tuple[Tombstone, ...]
    event: Event
    now_ms: int


@dataclass(frozen=True, slots=True)
class PutDocument:
    """A document that the server decided, signed.

    Attributes:
        patient_id: For whom; ``""`` is for all of the tenant.
        patient_key: The patient's data key; ``None`` for all of the tenant.
        document: The document; its version must follow the one held.
        event: Audit event of the request.
        now_ms: When it came, ms since 1970.
    """

    patient_id: str
    patient_key: PatientKey | None
    document: Document
    event: Event
    now_ms: int


Change: TypeAlias = Push | Give | Annotate | WriteNote | Delete | PutDocument


def rows_of(changes: Iterable[Change]) -> int:
    """How many rows a batch writes at most."""
    return sum(map(_rows, changes))


def patient_of(change: Change) -> str:
    """Whose rows a change touches; ``""`` for those of the tenant."""
    if isinstance(change, Push | Give | Annotate):
        return change.device.patient_id
    return change.patient_id


def writer_of(change: Change) -> int:
    """Alias of the device that wrote; 0 for anybody else."""
    return change.device.alias if isinstance(change, Push | Give) else 0


def key_of(change: Change) -> PatientKey | None:
    """The data key of that patient."""
    if isinstance(change, Push | Give | Annotate):
        return change.device.patient_key
    return change.patient_key


def _rows(change: Change) -> int:
    if isinstance(change, Push):
        request = change.request
        rows = len(change.rows) + len(change.alerts) + len(request.annotations)
        return rows + len(request.notes) + len(request.deletions)
    return len(change.rows) if isinstance(change, Give | Delete) else 1
