"""EDF, EDF+ (continuous and interrupted) and BDF recordings as a ``Source``.

``edf_header`` parses the header and ``edf_timekeeping`` the starts of interrupted data records. Samples are decoded
here and not by edfio, because it reads no interrupted recording; in the tests edfio is the oracle for the others.

It deliberately reads no annotations but the time-keeping ones. The start in the header is local time without a zone
and is not passed on; names and dates of the patient are never touched.

Invariants:
    1. A file shorter than its header claims is refused when it is opened.
    2. At most one data record or ``READ_SAMPLES`` samples are in memory at once, whichever is more.
    3. The lowest count is ``MISSING_UV`` where it is the lead's digital minimum: writers pad the last data record with
       it, and a signal that rests on its lower rail could not be read anyway.
    4. The time between the data records of an interrupted recording is ``MISSING_UV``, to the sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from einthoven.edf_header import (
    ANNOTATION_LABELS,
    FIXED_HEADER_BYTES,
    EdfHeader,
    EdfSignal,
    calibration,
    header_bytes,
    parse_header,
    short_file,
)
from einthoven.edf_timekeeping import MAX_INTERRUPTED_RECORDS, first_samples, record_start_s
from einthoven.errors import RecordFormatError
from einthoven.ports import MISSING_UV
from einthoven.samples import as_microvolts
from einthoven.source_checks import (
    READ_SAMPLES,
    choose_lead,
    pieces,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)


@dataclass(frozen=True, slots=True)
class EdfSource:
    """One lead of an EDF recording. Made by ``open``."""

    name: str
    sampling_rate_hz: Fraction
    n_samples: int
    _path: Path = field(repr=False)
    _header: EdfHeader = field(repr=False)
    _signal: EdfSignal = field(repr=False)
    _n_records: int = field(repr=False)
    _firsts: tuple[int, ...] = field(repr=False)
    simulated: bool = False
    started_at_ms: int | None = None

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Open a recording.

        Args:
            path: The ``.edf`` or ``.bdf`` file.
            lead: Label of the lead; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not EDF, shorter than it claims, or interrupted for longer than ``MAX_FILL_S``.
            UnknownUnit: The lead's physical dimension is not a voltage.
            SamplingRateError: The rate is not supported.
            InputError: There is no such lead.
        """
        size = regular_file(path)
        with translated("EDF"):
            with path.open("rb") as file:
                fixed = file.read(FIXED_HEADER_BYTES)
                header = parse_header(fixed + file.read(max(0, header_bytes(fixed) - FIXED_HEADER_BYTES)))
            held = (size - header.n_bytes) // header.record_bytes
            n_records = held if header.n_records == -1 else header.n_records
            if held < max(1, n_records):
                raise short_file()
            signals = [signal for signal in header.signals if signal.label not in ANNOTATION_LABELS]
            signal = signals[choose_lead([signal.label for signal in signals], lead)]
            calibration(signal, header.lowest_count)
            rate_hz = sampling_rate(Fraction(signal.n_samples) / header.record_s)
            firsts = _firsts(path, header, n_records, rate_hz, signal.n_samples) if header.interrupted else ()
            end = firsts[-1] + signal.n_samples if firsts else n_records * signal.n_samples
            return cls(
                name=source_name("EDF", signal.label),
                sampling_rate_hz=rate_hz,
                n_samples=sample_count(end),
                _path=path,
                _header=header,
                _signal=signal,
                _n_records=n_records,
                _firsts=firsts,
            )

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, ``MISSING_UV`` where padded or interrupted.

        Raises:
            RecordFormatError: The file changed since it was opened.
        """
        at = 0
        for first, block in self._runs():
            while at < first:
                length = min(READ_SAMPLES, first - at)
                yield from pieces(np.full(length, MISSING_UV, dtype=np.int32), self.sampling_rate_hz)
                at += length
            yield from pieces(block, self.sampling_rate_hz)
            at += block.size

    def _runs(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Yield (number of the first sample, samples) of data records that follow each other without a gap."""
        per_record, step = self._signal.n_samples, max(1, READ_SAMPLES * 2 // self._header.record_bytes)
        start = 0
        while start < self._n_records:
            stop = min(start + step, self._n_records)
            first = start * per_record
            if self._firsts:
                first = self._firsts[start]
                follows = (n for n in range(start + 1, stop) if self._firsts[n] != first + (n - start) * per_record)
                stop = next(follows, stop)
            yield first, self._block(start, stop)
            start = stop

    def _block(self, start: int, stop: int) -> NDArray[np.int32]:
        """The lead's samples in data records ``start`` to before ``stop``."""
        header, signal = self._header, self._signal
        with translated("EDF"):
            with self._path.open("rb") as file:
                file.seek(header.n_bytes + start * header.record_bytes)
                content = file.read((stop - start) * header.record_bytes)
            if len(content) < (stop - start) * header.record_bytes:
                raise short_file()
            records = np.frombuffer(content, dtype=np.uint8).reshape(stop - start, -1, header.sample_bytes)
            counts = _counts(records[:, signal.first : signal.first + signal.n_samples])
            scale_uv, offset_uv, digital_min = calibration(signal, header.lowest_count)
            microvolts = counts * scale_uv + offset_uv
            if digital_min == header.lowest_count:
                microvolts[counts == digital_min] = np.nan
            return as_microvolts(microvolts, max_samples=counts.size)


def _counts(samples: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Little-endian two's complement samples, uint8 [records, samples, 2 or 3], as int32 [n]."""
    low, high = samples[..., :-1].astype(np.int32), samples[..., -1].view(np.int8).astype(np.int32)
    shifts = 8 * np.arange(low.shape[-1], dtype=np.int32)
    counts: NDArray[np.int32] = (high << (8 * low.shape[-1])) + (low << shifts).sum(axis=-1, dtype=np.int32)
    return counts.ravel()


def _firsts(path: Path, header: EdfHeader, n_records: int, rate_hz: Fraction, per_record: int) -> tuple[int, ...]:
    """Number of the lead's first sample in each data record of an interrupted recording."""
    notes = [signal for signal in header.signals if signal.label in ANNOTATION_LABELS]
    if not notes or n_records > MAX_INTERRUPTED_RECORDS:
        raise RecordFormatError("an interrupted recording (EDF+D) without usable times", "export it as continuous EDF")
    offset, length = notes[0].first * header.sample_bytes, notes[0].n_samples * header.sample_bytes
    with path.open("rb") as file:

        def starts_s() -> Iterator[Fraction]:
            for n in range(n_records):
                file.seek(header.n_bytes + n * header.record_bytes + offset)
                yield record_start_s(file.read(length))

        return tuple(first_samples(starts_s(), rate_hz, per_record))
