"""An electrocardiogram of an Apple Health export (``electrocardiograms/ecg_*.csv``) as a ``Source``.

::

    Name,...                                Name
    Recorded Date,2024-01-15 10:00:00 +0000 Aufzeichnungsdatum,2020-07-31 22:48:19 +0200
    Sample Rate,512.844 hertz               Messrate,"511,562 Hertz"

    Lead,Lead I                             Ableitung,Ableitung I
    Unit,µV                                 Einheit,µV

    -69.047                                 -180,596

Apple documents no layout, and translates the words by the language of the phone; so rows are known by what their
values look like, in any language: the rate is a number of hertz, the unit a voltage, the date one with a zone. Between
the parts are one or more blank lines. Decimal point or comma, but one of them throughout.

It deliberately reads neither names nor dates of birth nor Apple's classification, and no grouped digits: ``1.234,5``
could be two numbers.

Invariants:
    1. Rate and unit stand in the file, or it is refused.
    2. The rate is the exact decimal fraction that is written.
    3. The whole file is checked when it is opened; ``chunks`` can't fail.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError, SamplingRateError
from einthoven.samples import as_microvolts
from einthoven.source_checks import (
    choose_lead,
    microvolts_per,
    pieces,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)

MAX_APPLE_BYTES: Final = 2 * 2**20
"""Thirty seconds are 0.12 MiB."""
MAX_HEADER_LINES: Final = 64
"""Lines before the first sample; exports have 13 to 15."""
MAX_LINE_CHARS: Final = 1024
SNIFF_BYTES: Final = 4096
"""How much of a file ``looks_like_apple`` wants to see."""
HERTZ: Final = (
    *("hertz", "hz", "hertze", "hertzů", "herc", "herca", "herce", "herców", "hercov", "hercio", "hercios", "hertsiä"),
    *("герц", "герца", "герців", "гц", "χερτζ", "هرتز", "הרץ", "赫兹", "赫茲", "ヘルツ", "헤르츠", "เฮิรตซ์"),
)
"""Names of the unit, as phones write it in their languages (Unicode CLDR, frequency-hertz)."""

_RATE = re.compile(rf"([0-9]{{1,6}}(?:[.,][0-9]{{1,9}})?)\s*(?:{'|'.join(HERTZ)})", re.IGNORECASE)
_DATE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4})", re.ASCII)
_SAMPLE = re.compile(r"[+-]?[0-9]{1,9}(?:[.,][0-9]{1,9})?")
MISSING_WORD: Final = "nan"


@dataclass(frozen=True, slots=True)
class AppleSource:
    """One electrocardiogram of an Apple Health export. Made by ``open``."""

    name: str
    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32] = field(repr=False)
    started_at_ms: int | None = None
    simulated: bool = False

    @classmethod
    def open(cls, path: Path, *, lead: str | None = None) -> Self:
        """Read and check a file.

        Args:
            path: The CSV file, UTF-8.
            lead: Name of the lead; there is only one, the watch's I.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not such an export, or a line is not what it should be; the message gives its number.
            SamplingRateError: The rate is missing or not supported.
            UnknownUnit: The unit is missing or not a voltage.
            InputError: It has no such lead.
        """
        regular_file(path, max_bytes=MAX_APPLE_BYTES)
        with translated("Apple Health"):
            try:
                with path.open(encoding="utf-8-sig", newline=None) as file:
                    lines = file.read().split("\n")
            except UnicodeDecodeError as problem:
                raise RecordFormatError("the file is not UTF-8 text", "export it from Apple Health again") from problem
            header = _Header(lines)
            if lead is not None:
                choose_lead([header.lead], lead)
            samples_uv = _samples_uv(lines, header.n_lines, float(microvolts_per(header.unit)))
        return cls(
            name=source_name("Apple Health", header.lead),
            sampling_rate_hz=sampling_rate(header.rate),
            samples_uv=samples_uv,
            started_at_ms=header.started_at_ms,
        )

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, about a second at a time."""
        yield from pieces(self.samples_uv, self.sampling_rate_hz)


def looks_like_apple(first: bytes) -> bool:
    """Whether the first ``SNIFF_BYTES`` of a CSV file are those of an Apple Health electrocardiogram.

    That is so where a row before the first number states a number of hertz: a plain table declares its rate in a
    ``#`` line, or not at all.
    """
    for line in first.decode("utf-8-sig", errors="replace").splitlines()[:MAX_HEADER_LINES]:
        if line.startswith("#") or _SAMPLE.fullmatch(line.strip()):
            return False
        if _RATE.fullmatch(_value(line)):
            return True
    return False


class _Header:
    """The rows before the first sample, by what their values look like; lead and unit are the last two."""

    def __init__(self, lines: list[str]) -> None:
        self.n_lines = next((at for at, line in enumerate(lines[:MAX_HEADER_LINES]) if _is_sample(line)), len(lines))
        values = [_value(line) for line in lines[: min(self.n_lines, MAX_HEADER_LINES)] if line.strip()]
        rates = [rate.group(1) for value in values if (rate := _RATE.fullmatch(value))]
        dates = [date.group(1) for value in values if (date := _DATE.fullmatch(value))]
        if not rates:
            raise SamplingRateError("the file states no sampling rate in hertz", "export it from Apple Health again")
        if len(rates) > 1:
            raise SamplingRateError("the file states two sampling rates", "export it from Apple Health again")
        self.rate = rates[0].replace(",", ".")
        self.unit = values[-1]
        self.lead = values[-2].rpartition(" ")[2] if len(values) > 1 else ""  # "Lead I", "Ableitung I"
        self.started_at_ms = _utc_ms(dates[0]) if dates else None


def _value(line: str) -> str:
    """What follows the first comma of a row, without quotes; a comma in it stands unquoted in some exports."""
    if len(line) > MAX_LINE_CHARS or "," not in line:
        return ""
    fields = next(csv.reader([line]), [])
    return " ".join(",".join(fields[1:]).split())  # also the no-break space before "Hertz"


def _utc_ms(text: str) -> int | None:
    try:
        at = datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z")
    except ValueError:  # no such day, hour or zone
        return None
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _is_sample(line: str) -> bool:
    text = _unquoted(line)
    return text.lower() == MISSING_WORD or _SAMPLE.fullmatch(text) is not None


def _unquoted(line: str) -> str:
    return line.strip().strip('"')


def _samples_uv(lines: list[str], first: int, unit_uv: float) -> NDArray[np.int32]:
    """Microvolts of the lines from ``first`` on, int32 [n], read-only."""
    last = len(lines)
    while last > first and not lines[last - 1].strip():
        last -= 1
    values = np.empty(sample_count(last - first))
    marks: set[str] = set()
    for index, line in enumerate(lines[first:last]):
        if not _is_sample(line):
            raise RecordFormatError(f"line {first + index + 1} is not a number", "export it from Apple Health again")
        text = _unquoted(line)
        marks.update(mark for mark in ".," if mark in text)
        values[index] = float(text.replace(",", "."))
    if len(marks) > 1:
        raise RecordFormatError("decimal points and commas are mixed", "export it from Apple Health again")
    samples_uv = as_microvolts(values * unit_uv, max_samples=values.size)
    samples_uv.flags.writeable = False
    return samples_uv
