"""PhysioNet's WFDB records (``.hea`` with ``.dat`` or ``.mat``) as a ``Source``; samples are decoded by wfdb.

wfdb is never shown the record's own header. ``wfdb_header`` parses it, and wfdb reads a header that we wrote, in a
temporary folder with links to the signal files: no hostile number, no comment about a patient, and none of the dates
that it trips over reach it.

It deliberately reads no annotations, no delta format (8) and no FLAC; time of day in a header has no zone and is not
passed on.

Invariants:
    1. A signal file shorter than its header claims is refused when the record is opened, before any sample is used.
    2. At most ``READ_SAMPLES`` samples of the lead are in memory at once.
    3. What the format marks as invalid, and what lies between segments, is ``MISSING_UV``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import InputError, RecordFormatError, RecordNotFound, UnknownUnit
from einthoven.ports import MISSING_UV
from einthoven.samples import MAX_ABS_UV, as_microvolts
from einthoven.source_checks import (
    READ_SAMPLES,
    choose_lead,
    library,
    microvolts_per,
    pieces,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)
from einthoven.wfdb_header import MAX_HEADER_BYTES, Header, Signal, parse_header

BITS_A_SAMPLE: Final = {"16": 16, "61": 16, "160": 16, "24": 24, "32": 32, "80": 8, "212": 12}
"""Storage formats that are read (signal(5)), and the bits a sample takes in them."""
INVALID_COUNT: Final = {
    "16": -(2**15),
    "61": -(2**15),
    "160": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "80": -(2**7),
    "212": -(2**11),
}
"""The count that stands for an invalid sample in each format."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A run of frames: one signal of one group of signals in one file, or a gap."""

    n_frames: int
    group: tuple[Signal, ...] = ()
    index: int = 0
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class WfdbSource:
    """One lead of a WFDB record. Made by ``open``."""

    name: str
    sampling_rate_hz: Fraction
    n_samples: int
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
            RecordFormatError: Not a WFDB record, or shorter than it claims.
            UnknownUnit: The lead is not calibrated in volts.
            SamplingRateError: The rate is not supported.
            InputError: There is no such lead, or wfdb is not installed.
        """
        library("wfdb")
        header = _read_header(path if path.suffix == ".hea" else path.with_name(path.name + ".hea"))
        if not header.segments:
            stretch = _open_stretch(header, path.parent, lead)
            return cls._of(header, (stretch,))
        stretches = tuple(_open_segments(header, path.parent, lead))
        return cls._of(header, stretches)

    @classmethod
    def _of(cls, header: Header, stretches: tuple[_Stretch, ...]) -> Self:
        signals = [stretch.group[stretch.index] for stretch in stretches if stretch.file is not None]
        if not signals:
            raise InputError("no segment of the record holds that lead", "name another lead")
        frames = {signal.samples_a_frame for signal in signals}
        if len(frames) != 1:
            raise RecordFormatError("the lead changes its rate within the record", "read its segments one by one")
        per_frame = frames.pop()
        return cls(
            name=source_name("WFDB", signals[0].description),
            sampling_rate_hz=sampling_rate(header.frame_rate_hz * per_frame),
            n_samples=sample_count(per_frame * sum(stretch.n_frames for stretch in stretches)),
            _stretches=stretches,
        )

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, ``MISSING_UV`` where invalid.

        Raises:
            RecordFormatError: A signal file changed or vanished since the record was opened.
        """
        per_frame = next(s.group[s.index].samples_a_frame for s in self._stretches if s.file is not None)
        for stretch in self._stretches:
            if stretch.file is None:
                for start in range(0, stretch.n_frames * per_frame, READ_SAMPLES):
                    length = min(READ_SAMPLES, stretch.n_frames * per_frame - start)
                    yield from pieces(np.full(length, MISSING_UV, dtype=np.int32), self.sampling_rate_hz)
            else:
                for block in _decoded(stretch, stretch.file):
                    yield from pieces(block, self.sampling_rate_hz)


def _read_header(path: Path) -> Header:
    regular_file(path, max_bytes=MAX_HEADER_BYTES)
    with translated("WFDB"):
        return parse_header(path.read_bytes())


def _open_segments(header: Header, folder: Path, lead: str | None) -> Iterator[_Stretch]:
    wanted = lead
    for segment, n_frames in header.segments:
        if n_frames == 0:  # the layout of a variable-layout record: names signals, holds none
            continue
        if segment == "~":
            yield _Stretch(n_frames)
            continue
        part = _read_header(folder / f"{segment}.hea")
        if part.segments or part.n_frames not in {None, n_frames} or part.frame_rate_hz != header.frame_rate_hz:
            raise RecordFormatError("a segment does not fit its record", "export the record again")
        names = [signal.description for signal in part.signals]
        # One lead throughout: the first segment decides, later ones that lack it are gaps.
        if wanted is None:
            wanted = names[choose_lead(names, None)]
        try:
            choose_lead(names, wanted)
        except InputError:
            yield _Stretch(n_frames)
            continue
        yield _open_stretch(part, folder, wanted, n_frames)


def _open_stretch(header: Header, folder: Path, lead: str | None, n_frames: int | None = None) -> _Stretch:
    index = choose_lead([signal.description for signal in header.signals], lead)
    signal = header.signals[index]
    if signal.storage_format not in BITS_A_SAMPLE:
        raise RecordFormatError("this WFDB storage format is not read", "convert the record to format 16 or 212")
    _scale_uv(signal)
    # Signals of one file are interleaved frame by frame, and share its format and offset.
    group = tuple(other for other in header.signals if other.file_name == signal.file_name)
    if any((o.storage_format, o.byte_offset) != (signal.storage_format, signal.byte_offset) for o in group):
        raise RecordFormatError("signals of one file differ in format", "export the record again")
    file = folder / signal.file_name
    try:
        held_bytes = regular_file(file) - signal.byte_offset
    except RecordNotFound as problem:
        raise RecordNotFound(
            "a signal file that the header names is not beside it", "copy the whole record"
        ) from problem
    frame_bits = BITS_A_SAMPLE[signal.storage_format] * sum(other.samples_a_frame for other in group)
    claimed = header.n_frames or n_frames or max(0, held_bytes) * 8 // frame_bits
    if held_bytes * 8 < claimed * frame_bits or claimed == 0:
        raise RecordFormatError("the signal file is shorter than its header claims", "copy the record again")
    sample_count(claimed * signal.samples_a_frame)
    position = [n for n, other in enumerate(header.signals) if other.file_name == signal.file_name].index(index)
    return _Stretch(claimed, group, position, file)


def _scale_uv(signal: Signal) -> float:
    """Microvolts a count."""
    if signal.gain == 0:
        raise UnknownUnit("the lead is not calibrated", "give a record that states its gain")
    scale = microvolts_per(signal.unit) / signal.gain
    if scale > MAX_ABS_UV:
        raise RecordFormatError("the gain in the header is not possible", "export the record again")
    return float(scale)


def _decoded(stretch: _Stretch, file: Path) -> Iterator[NDArray[np.int32]]:
    signal = stretch.group[stretch.index]
    scale_uv, invalid = _scale_uv(signal), INVALID_COUNT[signal.storage_format]
    step = max(1, READ_SAMPLES // signal.samples_a_frame)
    wfdb = library("wfdb")
    with TemporaryDirectory(prefix="einthoven-") as folder:
        with translated("WFDB"):
            _stage(stretch, file, Path(folder))
        for start in range(0, stretch.n_frames, step):
            stop = min(start + step, stretch.n_frames)
            with translated("WFDB"):
                record = wfdb.rdrecord(
                    str(Path(folder) / "r"),
                    sampfrom=start,
                    sampto=stop,
                    channels=[stretch.index],
                    physical=False,
                    smooth_frames=False,
                    return_res=32,
                )
                counts = np.asarray(record.e_d_signal[0], dtype=np.int64)
                if counts.size != (stop - start) * signal.samples_a_frame:
                    raise RecordFormatError("the signal file ends early", "copy the record again")
                microvolts = (counts - signal.baseline) * scale_uv
                microvolts[counts == invalid] = np.nan
                block = as_microvolts(microvolts, max_samples=counts.size)
            yield block


def _stage(stretch: _Stretch, file: Path, folder: Path) -> None:
    """Put a header of our own and a link to the signal file into a folder."""
    (folder / "r.dat").symlink_to(file.resolve())
    lines = [f"r {len(stretch.group)} 300 {stretch.n_frames}"]
    lines += [
        f"r.dat {s.storage_format}x{s.samples_a_frame}:{s.skew}+{s.byte_offset} 1(0)/mV 16 0 0 0 0 s{n}"
        for n, s in enumerate(stretch.group)
    ]
    (folder / "r.hea").write_text("\n".join(lines) + "\n", encoding="ascii")
