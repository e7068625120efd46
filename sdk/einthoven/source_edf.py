"""EDF and EDF+C recordings as a ``Source``; samples are decoded by edfio.

By Kemp B et al., A simple format for exchange of digitized polygraphic recordings, Electroencephalogr Clin
Neurophysiol 1992;82:391-393, and Kemp B, Olivan J, EDF+, Clin Neurophysiol 2003;114:1755-1761.

It deliberately reads no annotations and no interrupted recordings (EDF+D with gaps). The start in the header is local
time without a zone and is not passed on; names and dates of the patient are never touched.

Invariants:
    1. A file shorter than its header claims is refused when it is opened.
    2. At most one data record or ``READ_SAMPLES`` samples are in memory at once, whichever is more.
    3. The count -32768 is ``MISSING_UV`` where the lead's digital minimum is -32768: writers pad the last data record
       with it, and a signal that rests on its lower rail could not be read anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.samples import MAX_ABS_UV, as_microvolts
from einthoven.source_checks import (
    MAX_SIGNALS,
    READ_SAMPLES,
    choose_lead,
    library,
    microvolts_per,
    number,
    pieces,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)

FIXED_HEADER_BYTES: Final = 256
SIGNAL_HEADER_BYTES: Final = 256
MAX_RECORD_SAMPLES: Final = 4_000_000
"""Samples of all signals in one data record; the specification recommends at most 30,720."""
PADDING_COUNT: Final = -(2**15)


@dataclass(frozen=True, slots=True)
class _FixedHeader:
    """The numbers of the first 256 bytes."""

    n_signals: int
    n_records: int
    record_s: Fraction
    interrupted: bool


@dataclass(frozen=True, slots=True)
class EdfSource:
    """One lead of an EDF recording. Made by ``open``."""

    name: str
    sampling_rate_hz: Fraction
    n_samples: int
    _signal: Any = field(repr=False)
    _scale_uv: float = field(repr=False)
    _offset_uv: float = field(repr=False)
    _record_s: Fraction = field(repr=False)
    simulated: bool = False
    started_at_ms: int | None = None

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Open a recording.

        Args:
            path: The ``.edf`` file.
            lead: Label of the lead; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not EDF, shorter than it claims, or interrupted.
            UnknownUnit: The lead's physical dimension is not a voltage.
            SamplingRateError: The rate is not supported.
            InputError: There is no such lead, or edfio is not installed.
        """
        edfio = library("edfio")
        size = regular_file(path)
        with translated("EDF"):
            with path.open("rb") as file:
                fixed = _fixed_header(file.read(FIXED_HEADER_BYTES))
            if size < FIXED_HEADER_BYTES + SIGNAL_HEADER_BYTES * fixed.n_signals:
                raise _short()
            edf = edfio.read_edf(path, lazy_load_data=True, header_encoding="latin-1")
            record_samples = sum(signal.samples_per_data_record for signal in edf._signals)
            _check_size(size, fixed, record_samples)
            if fixed.interrupted and not edf.is_continuous:
                raise RecordFormatError("the recording was interrupted (EDF+D)", "export it as continuous EDF")
            signal = edf.signals[choose_lead([s.label for s in edf.signals], lead)]
            per_record = signal.samples_per_data_record
            scale_uv, offset_uv = _calibration(signal)
            return cls(
                name=source_name("EDF", signal.label),
                sampling_rate_hz=sampling_rate(Fraction(per_record) / fixed.record_s),
                n_samples=sample_count(per_record * edf.num_data_records),
                _signal=signal,
                _scale_uv=scale_uv,
                _offset_uv=offset_uv,
                _record_s=fixed.record_s,
            )

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, ``MISSING_UV`` where padded.

        Raises:
            RecordFormatError: The file changed since it was opened.
        """
        per_record = self._signal.samples_per_data_record
        records = max(1, READ_SAMPLES // per_record)
        padded = self._signal.digital_min == PADDING_COUNT
        for first in range(0, self.n_samples // per_record, records):
            last = min(first + records, self.n_samples // per_record)
            with translated("EDF"):
                counts = self._signal.get_digital_slice(float(first * self._record_s), float(last * self._record_s))
                if counts.size != (last - first) * per_record:
                    raise _short()
                microvolts = counts * self._scale_uv + self._offset_uv
                if padded:
                    microvolts[counts == PADDING_COUNT] = np.nan
                block = as_microvolts(microvolts, max_samples=counts.size)
            yield from pieces(block, self.sampling_rate_hz)


def _fixed_header(content: bytes) -> _FixedHeader:
    if len(content) < FIXED_HEADER_BYTES or content[:8] != b"0       ":
        raise RecordFormatError("this is not an EDF file", "give an EDF file")
    text = content.decode("latin-1")
    n_signals = number(text[252:256], "number of signals")
    n_records = number(text[236:244], "number of data records")
    record_s = number(text[244:252], "duration of a data record")
    header_bytes = number(text[184:192], "header size")
    if n_signals.denominator != 1 or not 1 <= n_signals <= MAX_SIGNALS:
        raise RecordFormatError("the number of signals is not possible", "export the record again")
    if header_bytes != FIXED_HEADER_BYTES + SIGNAL_HEADER_BYTES * n_signals:
        raise RecordFormatError("the header's size does not fit its signals", "export the record again")
    # -1: the writer did not know, as while recording; then the file's size says.
    if n_records.denominator != 1 or not (n_records >= 1 or n_records == -1):
        raise RecordFormatError("the record has no samples", "export the record again")
    if record_s <= 0:
        raise RecordFormatError("the duration of a data record is not possible", "export the record again")
    return _FixedHeader(int(n_signals), int(n_records), record_s, text[192:197] == "EDF+D")


def _check_size(size: int, fixed: _FixedHeader, record_samples: int) -> None:
    if not 0 < record_samples <= MAX_RECORD_SAMPLES:
        raise RecordFormatError("the size of a data record is not possible", "export the record again")
    held = (size - FIXED_HEADER_BYTES - SIGNAL_HEADER_BYTES * fixed.n_signals) // (2 * record_samples)
    if held < max(1, fixed.n_records):
        raise _short()


def _calibration(signal: Any) -> tuple[float, float]:
    """Microvolts a count, and microvolts at count 0."""
    unit_uv = microvolts_per(signal.physical_dimension)
    physical_min = number(signal._physical_min.decode("latin-1"), "physical minimum") * unit_uv
    physical_max = number(signal._physical_max.decode("latin-1"), "physical maximum") * unit_uv
    digital_min, digital_max = signal.digital_min, signal.digital_max
    if not PADDING_COUNT <= digital_min < digital_max < 2**15:
        raise RecordFormatError("the digital range of the lead is not possible", "export the record again")
    if signal.samples_per_data_record < 1 or not physical_min < physical_max:
        raise RecordFormatError("the physical range of the lead is not possible", "export the record again")
    scale_uv = (physical_max - physical_min) / (digital_max - digital_min)
    offset_uv = physical_min - digital_min * scale_uv
    if scale_uv > MAX_ABS_UV or abs(offset_uv) > MAX_ABS_UV * 2**16:
        raise RecordFormatError("the physical range of the lead is not possible", "export the record again")
    return float(scale_uv), float(offset_uv)


def _short() -> RecordFormatError:
    return RecordFormatError("the file is shorter than its header claims", "copy the record again")
