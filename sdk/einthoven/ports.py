"""The ports of the SDK: what the pure core needs from the world, and what the shell implements.

An adapter names its technology (``store_sqlcipher.py``, ``transport_https.py``). Every adapter and every fake of a
port passes that port's suite in ``tests/contracts/``. An adapter raises only errors of ``einthoven.errors``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from einthoven.events import SensorEvent
from einthoven.results import WindowResult
from einthoven_protocol.messages import (
    AnnotationRow,
    Cursor,
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    ResultId,
    ResultRow,
    RowVerdict,
)

MISSING_UV = -(2**31)
"""Stands for a sample that was never received, in int32 microvolts."""


class Clock(Protocol):
    """Wall time; the core never asks the machine itself."""

    def now_ms(self) -> int:
        """UTC in milliseconds since 1970."""
        ...


class KeyProvider(Protocol):
    """Holds the store's data key."""

    def load(self) -> bytes:
        """Return the 32-byte key.

        Raises:
            KeyUnavailable: There is none, or others can read it.
        """
        ...


class Source(Protocol):
    """Where samples come from: a file, a sensor, the simulator."""

    @property
    def name(self) -> str:
        """What to call it on a screen; no path, no patient."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no heart was involved."""
        ...

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Samples a second, exact."""
        ...

    @property
    def started_at_ms(self) -> int | None:
        """UTC of the first sample, ms since 1970, where the source knows it."""
        ...

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] in microvolts, ``MISSING_UV`` where none was received.

        Raises:
            InputError: The source turns out not to hold what it claimed.
        """
        ...


class Stamped(Enum):
    """Which of a packet's samples its stamp is for."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Packet:
    """Consecutive samples as a sensor sent them.

    Attributes:
        samples_uv: int32 [n] microvolts, ``MISSING_UV`` where none was received.
        stamp_ns: When the sensor (or the host, for one without a clock) says that the stamped sample was taken, ns;
            of any epoch if ``received_at_ms`` is given, else UTC since 1970. Without one, the packet follows what
            came before.
        stamped: The sample that the stamp is for.
        received_at_ms: UTC when the packet arrived here, ms since 1970; anchors the sensor's clock to UTC.
    """

    samples_uv: NDArray[np.int32]
    stamp_ns: int | None = None
    stamped: Stamped = Stamped.FIRST
    received_at_ms: int | None = None


class LiveSource(Protocol):
    """A sensor that sends packets while it is listened to."""

    @property
    def name(self) -> str:
        """What to call it on a screen; no patient."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no heart is involved."""
        ...

    @property
    def sampling_rate_hz(self) -> Fraction:
        """Nominal samples a second, exact."""
        ...

    def listen(self, listener: Callable[[SensorEvent], None]) -> None:
        """Call ``listener``, in the event loop, with what happens to the sensor; there is one listener at most."""
        ...

    async def start(self) -> None:
        """Find the sensor and start its stream; starting twice is an error of the caller.

        Raises:
            SensorError: In one of its kinds.
        """
        ...

    def packets(self) -> AsyncGenerator[Packet, None]:
        """Yield packets as they arrive, until the source ends or is closed.

        Raises:
            SensorError: The sensor was lost for good.
        """
        ...

    async def close(self) -> None:
        """Stop the stream and let go of the sensor. Closing twice is allowed; it never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of raw signal as it was received.

    Attributes:
        sampling_rate_hz: Samples a second, exact.
        samples_uv: int32 [n], microvolts, ``MISSING_UV`` where none was received; read-only.
    """

    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits to be sent.

    Attributes:
        results: Contiguous results from the first unacknowledged counter.
        segment_digests: One for each of ``results``, 32 bytes.
        annotations: Own annotations written since they were last acknowledged.
    """

    results: tuple[ResultRow, ...]
    segment_digests: tuple[bytes, ...]
    annotations: tuple[AnnotationRow, ...]


@dataclass(frozen=True, slots=True)
class SyncState:
    """Where this store stands with its server.

    Attributes:
        epoch: Epoch that new rows are written in, from 1.
        acknowledged: Highest acknowledged counter of this epoch.
        cursor: How far the server's feed was read.
        digest: Over all rows that the server is known to hold (see ``ExchangeResponse.digest``).
        waiting: Rows not yet acknowledged (results and annotations).
        refused: Verdicts other than accepted and duplicate, oldest first.
        last_exchange_ms: UTC of the last successful exchange, ms; ``None`` before the first.
        last_digest_equal: Whether that exchange ended with equal digests.
    """

    epoch: int
    acknowledged: int
    cursor: Cursor
    digest: Digest
    waiting: int
    refused: tuple[RowVerdict, ...]
    last_exchange_ms: int | None
    last_digest_equal: bool | None


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counts for a status line."""

    results: int
    annotations: int
    segments: int
    segment_bytes: int
    file_bytes: int


class Store(Protocol):
    """The device's encrypted store. One writer; every method is one transaction, all or nothing.

    Every method may raise ``StoreIOError``.
    """

    def append_window(self, result: WindowResult, segment: Segment) -> WindowResult:
        """Keep a verdict and its signal; durable on return.

        Returns:
            ``result`` with its counter set to the next one of this epoch.

        Raises:
            ValueError: ``result.segment_digest`` is not that of ``segment``.
        """
        ...

    def results(self, *, first_counter: int = 1, limit: int = 1_000) -> Sequence[WindowResult]:
        """Results of the current epoch in order of counter."""
        ...

    def result(self, counter: int) -> WindowResult | None:
        """One result of the current epoch."""
        ...

    def segment(self, digest: bytes) -> Segment | None:
        """The signal with this SHA-256, checked against it after reading.

        Raises:
            StoreIOError: The stored bytes are damaged.
        """
        ...

    def annotate(self, row: AnnotationRow) -> AnnotationRow:
        """Merge an annotation of this device's own making and put it in the outbox; return the merged row."""
        ...

    def annotations(self, target: ResultId | None = None) -> Sequence[AnnotationRow]:
        """All annotations, or those of one result, ordered by (target, author)."""
        ...

    def pending(self, *, limit: int) -> Pending:
        """What to push next: at most ``limit`` results and ``limit`` annotations."""
        ...

    def apply_exchange(self, request: ExchangeRequest, response: ExchangeResponse, *, at_ms: int) -> SyncState:
        """Take over a checked response: acknowledgements, verdicts, merged annotations, cursor and digest.

        Applying the same pair twice changes nothing.
        """
        ...

    def sync_state(self) -> SyncState:
        """Where this store stands."""
        ...

    def setting(self, name: str) -> bytes | None:
        """A small value kept under a name."""
        ...

    def put_setting(self, name: str, value: bytes) -> None:
        """Keep a small value under a name, durable on return."""
        ...

    def stats(self) -> StoreStats:
        """Counts and sizes."""
        ...

    def close(self) -> None:
        """Release the file; further calls are errors of the caller. Closing twice is allowed."""
        ...


class Transport(Protocol):
    """One request to the enrolled server over an authenticated channel."""

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Send and return the body of a 200 answer.

        Raises:
            TransportError: In one of its kinds.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
