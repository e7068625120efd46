"""Many results as what they are on disk and under a hash: their canonical bytes, one row after the other.

Most of what handles results by the thousand looks at no row: it hashes, seals, stores or packs their bytes. So a batch
holds these, and makes a row of them only for who looks at one. It deliberately checks nothing: ``canonical_results``
and ``result_tables`` make batches, of rows that they hold to their ranges.

Invariants:
    1. A batch equals a tuple of its rows, and hashes like one; it never changes.
    2. ``octets`` is ``canonical.encode_result_row`` of each row; a row with further columns is in no batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol.rows import IdentifiedResult, ResultRow

RESULT_FORMAT: Final = 1
RESULT: Final = struct.Struct(">BIQIHHHBH4iBBH32s")
"""A result without further columns, as ``canonical`` lays it out."""
RESULT_ROW_BYTES: Final = RESULT.size
"""Of a result without further columns."""
RESULT_FIELDS: Final = np.dtype(
    [
        ("format", "u1"),
        ("counter", ">u4"),
        ("started_at_ms", ">u8"),
        ("duration_ms", ">u4"),
        ("n_steps", ">u2"),
        ("usable_s", ">u2"),
        ("quality", ">u2"),
        ("rhythm", "u1"),
        ("confidence_permille", ">u2"),
        ("logits", ">i4", (4,)),
        ("tier", "u1"),
        ("reason", "u1"),
        ("front_end_version", ">u2"),
        ("model_digest", "V32"),
    ]
)
"""The same for NumPy."""


class ResultRows(Sequence[ResultRow]):
    """Results of one device, without further columns.

    Args:
        octets: Canonical bytes of all of them, one after the other; within their ranges.
    """

    __slots__ = ("_octets", "_rows")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._rows: tuple[ResultRow, ...] | None = None

    @property
    def octets(self) -> bytes:
        """Canonical bytes of all rows, one after the other."""
        return self._octets

    @property
    def fields(self) -> NDArray[np.void]:
        """Structured array [rows] of ``RESULT_FIELDS``."""
        return np.frombuffer(self._octets, RESULT_FIELDS)

    def split(self) -> list[bytes]:
        """Canonical bytes of each row."""
        octets, size = self._octets, RESULT_ROW_BYTES
        return [octets[at : at + size] for at in range(0, len(octets), size)]

    def __len__(self) -> int:
        return len(self._octets) // RESULT_ROW_BYTES

    @overload
    def __getitem__(self, place: int) -> ResultRow: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[ResultRow]: ...
    def __getitem__(self, place: int | slice) -> ResultRow | Sequence[ResultRow]:
        if isinstance(place, slice):
            begin, end, step = place.indices(len(self))
            if step == 1:
                return ResultRows(self._octets[begin * RESULT_ROW_BYTES : max(begin, end) * RESULT_ROW_BYTES])
            return self._all()[place]
        if self._rows is not None:
            return self._rows[place]
        (row,) = _made(self._octets[(at := range(len(self))[place] * RESULT_ROW_BYTES) : at + RESULT_ROW_BYTES])
        return row

    def __iter__(self) -> Iterator[ResultRow]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ResultRows):
            return self._octets == other._octets
        return self._all() == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> tuple[ResultRow, ...]:
        if self._rows is None:
            self._rows = tuple(_made(self._octets))
        return self._rows


class IdentifiedResults(Sequence[IdentifiedResult]):
    """Results of any devices, without further columns.

    Args:
        aliases: int64 [rows], their devices; within their range.
        epochs: int64 [rows], likewise.
        rows: The rows.

    Attributes:
        aliases: As given.
        epochs: As given.
        rows: As given.
    """

    __slots__ = ("_all_made", "aliases", "epochs", "rows")

    def __init__(self, aliases: NDArray[np.int64], epochs: NDArray[np.int64], rows: ResultRows) -> None:
        self.aliases = aliases
        self.epochs = epochs
        self.rows = rows
        self._all_made: tuple[IdentifiedResult, ...] | None = None

    def count_distinct(self) -> int:
        """How many different names its rows have."""
        counters = self.rows.fields["counter"].tolist()
        return len(set(zip(self.aliases.tolist(), self.epochs.tolist(), counters, strict=True)))

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> IdentifiedResult: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[IdentifiedResult]: ...
    def __getitem__(self, place: int | slice) -> IdentifiedResult | Sequence[IdentifiedResult]:
        return self._all()[place]

    def __iter__(self) -> Iterator[IdentifiedResult]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IdentifiedResults):
            return (
                self.rows == other.rows
                and np.array_equal(self.aliases, other.aliases)
                and np.array_equal(self.epochs, other.epochs)
            )
        return self._all() == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> tuple[IdentifiedResult, ...]:
        if self._all_made is None:
            names = zip(self.aliases.tolist(), self.epochs.tolist(), self.rows, strict=True)
            self._all_made = tuple(
                IdentifiedResult(device_alias=alias, epoch=epoch, row=row) for alias, epoch, row in names
            )
        return self._all_made


def _made(octets: bytes) -> list[ResultRow]:
    return [
        ResultRow(
            counter=counter,
            started_at_ms=started,
            duration_ms=duration,
            n_steps=steps,
            usable_s=usable,
            quality=quality,
            rhythm=rhythm,
            confidence_permille=confidence,
            logits=(l0, l1, l2, l3),
            tier=tier,
            reason=reason,
            model_digest=model,
            front_end_version=front_end,
        )
        for (
            _,
            counter,
            started,
            duration,
            steps,
            usable,
            quality,
            rhythm,
            confidence,
            l0,
            l1,
            l2,
            l3,
            tier,
            reason,
            front_end,
            model,
        ) in RESULT.iter_unpack(octets)
    ]
