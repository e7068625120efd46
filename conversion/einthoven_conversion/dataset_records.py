"""What a data set is made of, whatever its layout: a labelled record, and the limits that every reader keeps.

It deliberately reads nothing (``dataset_shards`` and ``dataset_physionet`` do).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

LABELS = ("N", "A", "O", "~")
"""In the order of ``einthoven.results.Rhythm``."""
MAX_RECORD_SAMPLES: Final = 10_000_000
"""Of one lead."""
MAX_RECORDS: Final = 200_000
MAX_TEXT_BYTES: Final = 64 * 2**20
"""Largest index, list of records or file of marks, unpacked."""
FETCH_AGAIN: Final = "fetch the data set again"


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled recording.

    Attributes:
        record_id: Name within the data set.
        sampling_rate_hz: Exact.
        label: Index into ``LABELS``.
        fold: Cross-validation fold, or None where the set has none.
        shard: File that holds the signal, or its WFDB header, within the set's folder.
        row: Position in the file.
    """

    record_id: str
    sampling_rate_hz: Fraction
    label: int
    fold: int | None
    shard: str
    row: int
