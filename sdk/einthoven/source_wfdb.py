"""PhysioNet's WFDB records (``.hea`` with ``.dat``, ``.mat`` or FLAC) as a ``Source``.

By the WFDB Applications Guide, header(5) and signal(5); ``wfdb_header``, ``wfdb_formats`` and ``wfdb_signal_file``
read the parts. A record may have several signal files, several samples a frame, and several segments: of a variable
layout the layout names the leads, of a fixed one its first segment does. Skew is undone.

It deliberately reads no annotations; time of day in a header has no zone and is not passed on.

Invariants:
    1. A signal file shorter than its header claims is refused when the record is opened, before any sample is used.
    2. So is one whose samples do not have the checksum that the header states. 0 is taken for "none": PhysioNet's own
       CinC 2017 records state it and mean nothing. Then a stated first sample has to be right, 0 again left aside.
    3. At most ``READ_SAMPLES`` samples of the lead are in memory at once.
    4. What the format marks as invalid, what lies between segments, segments without the lead, and what skew moves
       beyond the end of the file is ``MISSING_UV``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import InputError, RecordFormatError, RecordNotFound, UnknownUnit
from einthoven.ports import MISSING_UV
from einthoven.samples import MAX_ABS_UV, as_microvolts
from einthoven.source_checks import (
    READ_SAMPLES,
    choose_lead,
    microvolts_per,
    pieces,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)
from einthoven.wfdb_formats import FLAC_BITS, FORMATS
from einthoven.wfdb_header import MAX_HEADER_BYTES, Header, Signal, parse_header
from einthoven.wfdb_signal_file import SignalFile


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A run of frames: of one signal of a file, or a gap.

    ``n_held`` is how many frames its file has; skew may ask for later ones.
    """

    n_frames: int
    file: SignalFile | None = None
    n_held: int = 0


@dataclass(frozen=True, slots=True)
class WfdbSource:
    """One lead of a WFDB record. Made by ``open``."""

    name: str
    sampling_rate_hz: Fraction
    n_samples: int
    _per_frame: int = field(repr=False)
    _stretches: tuple[_Stretch, ...] = field(repr=False)
    simulated: bool = False
    started_at_ms: int | None = None

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Open a record by its header or its name without extension.

        Args:
            path: The ``.hea`` file, or the same without ``.hea``.
            lead: Name of the lead; without, the best of ``source_checks.LEADS``.

        Raises:
            RecordNotFound: The header or a file it names is not there.
            RecordFormatError: Not a WFDB record, shorter than it claims, or with a wrong checksum.
            UnknownUnit: The lead is not calibrated in volts.
            SamplingRateError: The rate is not supported.
            InputError: There is no such lead, or a FLAC record without soundfile installed.
        """
        header = _read_header(path if path.suffix == ".hea" else path.with_name(path.name + ".hea"))
        with translated("WFDB"):
            if header.segments:
                stretches = tuple(_open_segments(header, path.parent, lead))
            else:
                stretches = (_open_stretch(header, path.parent, lead),)
            files = [stretch.file for stretch in stretches if stretch.file is not None]
            if not files:
                raise InputError("no segment of the record holds that lead", "name another lead")
            per_frame = files[0].signal.samples_a_frame
            if any(file.signal.samples_a_frame != per_frame for file in files):
                raise RecordFormatError("the lead changes its rate within the record", "read its segments one by one")
            return cls(
                name=source_name("WFDB", files[0].signal.description),
                sampling_rate_hz=sampling_rate(header.frame_rate_hz * per_frame),
                n_samples=sample_count(per_frame * sum(stretch.n_frames for stretch in stretches)),
                _per_frame=per_frame,
                _stretches=stretches,
            )

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, ``MISSING_UV`` where invalid.

        Raises:
            RecordFormatError: A signal file changed or vanished since the record was opened.
        """
        for stretch in self._stretches:
            if stretch.file is None:
                yield from self._gap(stretch.n_frames)
                continue
            skew = stretch.file.signal.skew
            last = min(skew + stretch.n_frames, stretch.n_held)
            scale_uv, baseline = _scale_uv(stretch.file.signal), stretch.file.signal.baseline
            blocks = stretch.file.counts(min(skew, last), last)
            while True:
                with translated("WFDB"):
                    counts = next(blocks, None)
                if counts is None:
                    break
                microvolts = (counts - baseline) * scale_uv
                microvolts[counts == stretch.file.invalid] = np.nan
                yield from pieces(as_microvolts(microvolts, max_samples=counts.size), self.sampling_rate_hz)
            yield from self._gap(stretch.n_frames - max(0, last - skew))

    def _gap(self, n_frames: int) -> Iterator[NDArray[np.int32]]:
        n_samples = n_frames * self._per_frame
        for start in range(0, n_samples, READ_SAMPLES):
            missing = np.full(min(READ_SAMPLES, n_samples - start), MISSING_UV, dtype=np.int32)
            yield from pieces(missing, self.sampling_rate_hz)


def _read_header(path: Path) -> Header:
    regular_file(path, max_bytes=MAX_HEADER_BYTES)
    with translated("WFDB"):
        return parse_header(path.read_bytes())


def _open_segments(header: Header, folder: Path, lead: str | None) -> Iterator[_Stretch]:
    if header.n_frames not in {None, sum(n_frames for _, n_frames in header.segments)}:
        raise RecordFormatError("the segments are not as long as their record", "export the record again")
    wanted = lead
    for segment, n_frames in header.segments:
        if segment == "~":
            if n_frames:
                yield _Stretch(n_frames)
            continue
        if n_frames == 0:  # the layout of a variable-layout record: it names all signals and holds none
            wanted = wanted or _lead_of_layout(folder / f"{segment}.hea")
            continue
        part = _read_header(folder / f"{segment}.hea")
        if part.segments or part.n_frames not in {None, n_frames} or part.frame_rate_hz != header.frame_rate_hz:
            raise RecordFormatError("a segment does not fit its record", "export the record again")
        names = [signal.description for signal in part.signals]
        # One lead throughout: what lacks it is a gap.
        if wanted is None:
            wanted = names[choose_lead(names, None)]
        try:
            choose_lead(names, wanted)
        except InputError:
            yield _Stretch(n_frames)
            continue
        yield _open_stretch(part, folder, wanted, n_frames)


def _lead_of_layout(path: Path) -> str | None:
    """The best lead that a layout names; ``None`` where it is not there, or names no ECG."""
    try:
        names = [signal.description for signal in _read_header(path).signals]
        return names[choose_lead(names, None)]
    except InputError:
        return None


def _open_stretch(header: Header, folder: Path, lead: str | None, n_frames: int | None = None) -> _Stretch:
    index = choose_lead([signal.description for signal in header.signals], lead)
    signal = header.signals[index]
    if signal.storage_format not in FORMATS and signal.storage_format not in FLAC_BITS:
        raise RecordFormatError("this WFDB storage format is not read", "convert the record to format 16 or 212")
    _scale_uv(signal)
    # Signals of one file are interleaved frame by frame, and share its format and offset.
    places = [n for n, other in enumerate(header.signals) if other.file_name == signal.file_name]
    group = tuple(header.signals[n] for n in places)
    if any((o.storage_format, o.byte_offset) != (signal.storage_format, signal.byte_offset) for o in group):
        raise RecordFormatError("signals of one file differ in format", "export the record again")
    file = SignalFile(folder / signal.file_name, group, places.index(index))
    try:
        held = file.frames_held()
    except RecordNotFound as problem:
        raise RecordNotFound(
            "a signal file that the header names is not beside it", "copy the whole record"
        ) from problem
    claimed = header.n_frames or n_frames or held
    if held < claimed or claimed == 0:
        raise RecordFormatError("the signal file is shorter than its header claims", "copy the record again")
    sample_count(claimed * signal.samples_a_frame)
    _check_samples(file, claimed)
    return _Stretch(claimed, file, held)


def _check_samples(file: SignalFile, n_frames: int) -> None:
    """Compare the samples with the checksum, or else with the first sample, that the header states."""
    signal = file.signal
    if signal.skew:
        return  # header(5) does not say whether the sum is over the samples before or after they are moved
    if signal.checksum:
        total = sum(int(counts.sum()) for counts in file.counts(0, n_frames))
        right = total % 2**16 == signal.checksum
    elif signal.initial_value and signal.storage_format != "8":
        right = int(next(file.counts(0, 1))[0]) == signal.initial_value
    else:
        return
    if not right:
        raise RecordFormatError("the samples are not those that the header was written for", "copy the record again")


def _scale_uv(signal: Signal) -> float:
    """Microvolts a count."""
    if signal.gain == 0:
        raise UnknownUnit("the lead is not calibrated", "give a record that states its gain")
    scale = microvolts_per(signal.unit) / signal.gain
    if scale > MAX_ABS_UV:
        raise RecordFormatError("the gain in the header is not possible", "export the record again")
    return float(scale)
