"""The header of a WFDB record, parsed strictly. Pure.

By the WFDB Applications Guide, header(5). Our own parser and not wfdb's, because wfdb 4 refuses dates that PhysioNet's
own CinC 2017 records carry (``2014-05-08``), and takes what it should refuse. The date is not read at all: it is local
time of an unnamed zone, and shifted in most public records.

Invariants:
    1. Whatever the text, the result is a ``Header`` or an ``InputError``; time is linear in its length.
    2. Each signal file is a plain name, so it lies beside the header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from einthoven.errors import RecordFormatError
from einthoven.source_checks import MAX_SIGNALS, number

MAX_HEADER_BYTES: Final = 1 << 20
MAX_SEGMENTS: Final = 10_000
MAX_SKEW_FRAMES: Final = 10_000
MAX_SAMPLES_A_FRAME: Final = 100
MAX_COUNT: Final = 10**15
"""Largest count any field may state."""

_COUNT = re.compile(r"\d{1,15}", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,11}", re.ASCII)
_PLAIN_NAME = re.compile(r"[\w-][\w.-]{0,254}", re.ASCII)
_RECORD = re.compile(r"(?P<name>[\w-]+)(/(?P<segments>\d{1,15}))?", re.ASCII)
_FORMAT = re.compile(r"(?P<format>\d{1,4})(x(?P<frame>\d{1,9}))?(:(?P<skew>\d{1,9}))?(\+(?P<offset>\d{1,15}))?")
_RATE = re.compile(r"(?P<rate>[^/(]+)(/(?P<counter>[^/(]+))?(\((?P<base>[^()]+)\))?")
_GAIN = re.compile(r"(?P<gain>[^(/\s]+)(\((?P<baseline>[+-]?\d{1,11})\))?(/(?P<unit>\S{1,32}))?")


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal line.

    Attributes:
        file_name: Plain name of the signal file.
        storage_format: WFDB storage format number, as text.
        samples_a_frame: Samples for each frame of the record.
        skew: Frames that this signal lags.
        byte_offset: Bytes before the first sample.
        gain: Counts for one physical unit; 0 where the signal is not calibrated.
        baseline: Count that stands for 0 physical units.
        unit: Name of the unit; by header(5), a gain without unit is counts a millivolt.
        initial_value: First sample, ``None`` where not stated; format 8 starts from it.
        checksum: Sum of all samples modulo 2**16, ``None`` where not stated.
        description: What the file calls the signal; may name anybody.
    """

    file_name: str
    storage_format: str
    samples_a_frame: int
    skew: int
    byte_offset: int
    gain: Fraction
    baseline: int
    unit: str
    initial_value: int | None
    checksum: int | None
    description: str


@dataclass(frozen=True, slots=True)
class Header:
    """A record's header.

    Attributes:
        frame_rate_hz: Frames a second; 250 where none is stated (header(5)).
        n_frames: Length of the record in frames, ``None`` where not stated.
        signals: The signal lines; empty for a multi-segment record.
        segments: (record name, length in frames) of a multi-segment record; the name ``~`` is a gap.
    """

    frame_rate_hz: Fraction
    n_frames: int | None
    signals: tuple[Signal, ...]
    segments: tuple[tuple[str, int], ...]


def parse_header(content: bytes) -> Header:
    """Parse a ``.hea`` file.

    Raises:
        RecordFormatError: It is not one.
    """
    # Comments may be in any encoding; what matters is ASCII.
    lines = [line.strip() for line in content.decode("ascii", "replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    fields = lines[0].split() if lines else []
    record = _RECORD.fullmatch(fields[0]) if fields else None
    if record is None or len(fields) < 2:
        raise _bad("record line")
    n_signals = _count(fields[1], "number of signals", at_most=MAX_SIGNALS)
    rate_hz = _rate(fields[2]) if len(fields) > 2 else Fraction(250)
    # A length of 0 means that it is not known (header(5)).
    n_frames = _count(fields[3], "number of samples") or None if len(fields) > 3 else None
    if record["segments"] is not None:
        n_segments = _count(record["segments"], "number of segments", at_most=MAX_SEGMENTS)
        segments = tuple(_segment(line) for line in lines[1 : 1 + n_segments])
        if len(segments) != n_segments or not segments:
            raise _bad("segment list")
        return Header(rate_hz, n_frames, (), segments)
    if n_signals == 0:
        raise RecordFormatError("the record has no signals", "give a record with an ECG")
    if len(lines) < 1 + n_signals:
        raise _bad("signal list")
    return Header(rate_hz, n_frames, tuple(_signal(line) for line in lines[1 : 1 + n_signals]), ())


def _rate(text: str) -> Fraction:
    """The frame rate of ``360/0.5(12)``; counter frequency and base counter value only number the frames otherwise."""
    rate = _RATE.fullmatch(text)
    if rate is None:
        raise _bad("sampling rate")
    for part, what in (("counter", "counter frequency"), ("base", "base counter value")):
        if rate[part] is not None:
            number(rate[part], what)
    return number(rate["rate"], "sampling rate")


def _signal(line: str) -> Signal:
    fields = line.split(maxsplit=8)
    layout = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
    if layout is None or not (_PLAIN_NAME.fullmatch(fields[0]) or fields[0] == "~"):
        raise _bad("signal line")
    gain, baseline, unit = Fraction(0), None, "mV"
    if len(fields) > 2:
        scale = _GAIN.fullmatch(fields[2])
        if scale is None:
            raise _bad("gain")
        gain, unit = number(scale["gain"], "gain"), scale["unit"] or "mV"
        baseline = int(scale["baseline"]) if scale["baseline"] else None
    if gain < 0:
        raise RecordFormatError("the gain in the header is negative", "export the record again")
    adc_zero = _stated(fields, 4, "ADC zero") or 0
    checksum = _stated(fields, 6, "checksum")
    return Signal(
        file_name=fields[0],
        storage_format=layout["format"],
        samples_a_frame=_count(layout["frame"] or "1", "samples a frame", at_most=MAX_SAMPLES_A_FRAME) or 1,
        skew=_count(layout["skew"] or "0", "skew", at_most=MAX_SKEW_FRAMES),
        byte_offset=_count(layout["offset"] or "0", "byte offset"),
        gain=gain,
        baseline=adc_zero if baseline is None else baseline,
        unit=unit,
        initial_value=_stated(fields, 5, "initial value"),
        checksum=None if checksum is None else checksum % 2**16,
        description=fields[8].strip() if len(fields) > 8 else "",
    )


def _stated(fields: list[str], at: int, what: str) -> int | None:
    """A whole number of a signal line, ``None`` where the line ends before it."""
    if len(fields) <= at:
        return None
    if not _INTEGER.fullmatch(fields[at]):
        raise _bad(what)
    return int(fields[at])


def _segment(line: str) -> tuple[str, int]:
    fields = line.split()
    if len(fields) != 2 or not (fields[0] == "~" or _PLAIN_NAME.fullmatch(fields[0])):
        raise _bad("segment line")
    return fields[0], _count(fields[1], "segment length")


def _count(text: str, what: str, at_most: int = MAX_COUNT) -> int:
    if not _COUNT.fullmatch(text) or int(text) > at_most:
        raise RecordFormatError(f"the {what} in the header is not possible", "export the record again")
    return int(text)


def _bad(what: str) -> RecordFormatError:
    return RecordFormatError(f"this is not a WFDB header: its {what} can't be read", "give the .hea file of a record")
