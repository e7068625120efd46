"""The header of an EDF, EDF+ or BDF file, parsed strictly. Pure.

By Kemp B et al., A simple format for exchange of digitized polygraphic recordings, Electroencephalogr Clin
Neurophysiol 1992;82:391-393; Kemp B, Olivan J, EDF+, Clin Neurophysiol 2003;114:1755-1761; and BioSemi's BDF, which
is EDF with samples of 24 bits.

It deliberately skips the patient and the recording field, the start (local time without a zone), transducers and
filters.

Invariants:
    1. Whatever the bytes, the result is a header or an ``InputError``; time is linear in their number.
    2. The header's size, its number of signals, and the size of a data record fit each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Final

from einthoven.errors import RecordFormatError
from einthoven.samples import MAX_ABS_UV
from einthoven.source_checks import MAX_SIGNALS, microvolts_per, number

FIXED_HEADER_BYTES: Final = 256
SIGNAL_HEADER_BYTES: Final = 256
MAX_RECORD_SAMPLES: Final = 4_000_000
"""Samples of all signals in one data record; the specification recommends at most 30,720."""
EDF_MAGIC: Final = b"0       "
BDF_MAGIC: Final = b"\xffBIOSEMI"
ANNOTATION_LABELS: Final = ("EDF Annotations", "BDF Annotations")
_FIELD_CHARS: Final = {
    **{"label": 16, "transducer": 80, "unit": 8, "physical minimum": 8, "physical maximum": 8},
    **{"digital minimum": 8, "digital maximum": 8, "filter": 80, "number of samples": 8, "reserved": 32},
}
"""Fields of the signal headers in their order; each is stated for all signals before the next one is."""
_REMEDY: Final = "export the record again"


@dataclass(frozen=True, slots=True)
class EdfSignal:
    """What the header says of one signal.

    Attributes:
        label: What the file calls it.
        n_samples: Samples in a data record.
        first: Place of its first sample in a data record.
        fields: The texts of the header, by name.
    """

    label: str
    n_samples: int
    first: int
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class EdfHeader:
    """What the header says of the recording.

    Attributes:
        sample_bytes: 2 for EDF, 3 for BDF.
        n_records: Data records, -1 where the writer did not know.
        record_s: Duration of a data record in seconds, exact.
        interrupted: Whether it is EDF+D or BDF+D: data records need not follow each other.
        signals: All signals, annotations included.
    """

    sample_bytes: int
    n_records: int
    record_s: Fraction
    interrupted: bool
    signals: tuple[EdfSignal, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of the header."""
        return FIXED_HEADER_BYTES + SIGNAL_HEADER_BYTES * len(self.signals)

    @property
    def record_bytes(self) -> int:
        """Bytes of a data record."""
        return self.sample_bytes * sum(signal.n_samples for signal in self.signals)

    @property
    def lowest_count(self) -> int:
        """The lowest count that fits a sample."""
        return int(-(2 ** (8 * self.sample_bytes - 1)))


def header_bytes(fixed: bytes) -> int:
    """Bytes of the whole header, by its first 256.

    Raises:
        RecordFormatError: It is not one, or its size does not fit its number of signals.
    """
    if len(fixed) < FIXED_HEADER_BYTES or not fixed.startswith((EDF_MAGIC, BDF_MAGIC)):
        raise RecordFormatError("this is not an EDF file", "give an EDF file")
    text = fixed.decode("latin-1")
    n_signals = number(text[252:256], "number of signals")
    stated_bytes = number(text[184:192], "header size")
    if n_signals.denominator != 1 or not 1 <= n_signals <= MAX_SIGNALS:
        raise RecordFormatError("the number of signals is not possible", _REMEDY)
    if stated_bytes != FIXED_HEADER_BYTES + SIGNAL_HEADER_BYTES * n_signals:
        raise RecordFormatError("the header's size does not fit its signals", _REMEDY)
    return int(stated_bytes)


def parse_header(content: bytes) -> EdfHeader:
    """Parse a whole header.

    Raises:
        RecordFormatError: It is not one.
    """
    size = header_bytes(content)
    if len(content) < size:
        raise short_file()
    text = content[:size].decode("latin-1")
    n_records = number(text[236:244], "number of data records")
    record_s = number(text[244:252], "duration of a data record")
    # -1: the writer did not know, as while recording; then the file's size says.
    if n_records.denominator != 1 or not (n_records >= 1 or n_records == -1):
        raise RecordFormatError("the record has no samples", _REMEDY)
    if record_s <= 0:
        raise RecordFormatError("the duration of a data record is not possible", _REMEDY)
    signals = _signals(text[FIXED_HEADER_BYTES:])
    if sum(signal.n_samples for signal in signals) > MAX_RECORD_SAMPLES:
        raise RecordFormatError("the size of a data record is not possible", _REMEDY)
    return EdfHeader(
        sample_bytes=3 if content.startswith(BDF_MAGIC) else 2,
        n_records=int(n_records),
        record_s=record_s,
        interrupted=text[192:197] in {"EDF+D", "BDF+D"},
        signals=signals,
    )


def _signals(text: str) -> tuple[EdfSignal, ...]:
    n_signals = len(text) // SIGNAL_HEADER_BYTES
    columns, at = {}, 0
    for name, width in _FIELD_CHARS.items():
        columns[name] = [text[at + n * width : at + (n + 1) * width].strip() for n in range(n_signals)]
        at += n_signals * width
    counts = [number(field, "number of samples") for field in columns["number of samples"]]
    if any(count.denominator != 1 or not 1 <= count <= MAX_RECORD_SAMPLES for count in counts):
        raise RecordFormatError("the size of a data record is not possible", _REMEDY)
    firsts = [0, *accumulate(int(count) for count in counts)]
    return tuple(
        EdfSignal(label, int(counts[n]), firsts[n], {name: column[n] for name, column in columns.items()})
        for n, label in enumerate(columns["label"])
    )


def calibration(signal: EdfSignal, lowest_count: int) -> tuple[float, float, int]:
    """Return microvolts a count, microvolts at count 0, and the digital minimum.

    Raises:
        UnknownUnit: The physical dimension is not a voltage.
        RecordFormatError: The ranges are not possible.
    """
    unit_uv = microvolts_per(signal.fields["unit"])
    physical_min, physical_max, digital_min, digital_max = (
        number(signal.fields[name], name)
        for name in ("physical minimum", "physical maximum", "digital minimum", "digital maximum")
    )
    whole = digital_min.denominator == digital_max.denominator == 1
    if not whole or not lowest_count <= digital_min < digital_max < -lowest_count:
        raise RecordFormatError("the digital range of the lead is not possible", _REMEDY)
    if physical_min >= physical_max:
        raise RecordFormatError("the physical range of the lead is not possible", _REMEDY)
    scale_uv = (physical_max - physical_min) * unit_uv / (digital_max - digital_min)
    offset_uv = physical_min * unit_uv - digital_min * scale_uv
    if scale_uv > MAX_ABS_UV or abs(offset_uv) > MAX_ABS_UV * 2**16:
        raise RecordFormatError("the physical range of the lead is not possible", _REMEDY)
    return float(scale_uv), float(offset_uv), int(digital_min)


def short_file() -> RecordFormatError:
    """What a file is refused with that ends before its header says."""
    return RecordFormatError("the file is shorter than its header claims", "copy the record again")
