"""Plain CSV as a ``Source``: numbers in columns, with a declared sampling rate and unit.

::

    # sampling_rate_hz=300
    # unit=uV
    -12
    -9.5
    NaN

One column, or several (``,`` ``;`` or tab) under a header row; then the column named like an ECG lead is read, or the
one asked for. Rate and unit stand in ``#`` lines or are given as options. An empty field, NaN or NA is a missing
sample.

It deliberately guesses neither rate nor unit, not even from a time column, and reads no decimal comma: ``1,5`` is two
fields.

Invariants:
    1. The whole file is checked when it is opened; ``chunks`` can't fail.
    2. Memory is bounded by ``MAX_CSV_SAMPLES`` samples and ``MAX_LINE_CHARS`` characters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import InputError, RecordFormatError
from einthoven.samples import as_microvolts
from einthoven.source_checks import (
    Rate,
    choose_lead,
    microvolts_per,
    pieces,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)

MAX_CSV_BYTES: Final = 256 * 2**20
MAX_CSV_SAMPLES: Final = 25_000_000
"""A day at 289 Hz."""
MAX_LINE_CHARS: Final = 4096
BLOCK_LINES: Final = 65_536
MISSING_WORDS: Final = frozenset({"", "nan", "na", "null"})


@dataclass(frozen=True, slots=True)
class CsvSource:
    """One column of a CSV file. Made by ``open``."""

    name: str
    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32] = field(repr=False)
    simulated: bool = False
    started_at_ms: int | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        lead: str | None = None,
        sampling_rate_hz: Rate = None,
        unit: str | None = None,
    ) -> Self:
        """Read and check a file.

        Args:
            path: The file, UTF-8.
            lead: Name of the column; without, the one named like an ECG lead.
            sampling_rate_hz: Samples a second, where the file does not say.
            unit: ``uV``, ``mV``, ``nV`` or ``V``, where the file does not say.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Empty, not text, or a line is not what it should be; the message gives its number.
            SamplingRateError: No rate is given, or one that is not supported.
            UnknownUnit: No unit is given, or one that is not a voltage.
            InputError: There is no such column, or an option contradicts the file.
        """
        regular_file(path, max_bytes=MAX_CSV_BYTES)
        with translated("CSV"):
            try:
                with path.open(encoding="utf-8-sig", newline=None) as file:
                    table = _Table(_bounded(file), lead)
                    rate_hz = table.declared_rate_hz(sampling_rate_hz)
                    unit_uv = float(table.declared_unit_uv(unit))
                    samples_uv = _samples(table.values(), unit_uv)
            except UnicodeDecodeError as problem:
                raise RecordFormatError("the file is not UTF-8 text", "save the table as UTF-8") from problem
        return cls(source_name("CSV", table.column_name), rate_hz, samples_uv)

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, ``MISSING_UV`` where empty or NaN."""
        yield from pieces(self.samples_uv, self.sampling_rate_hz)


class _Table:
    """Declarations, header row and the wanted column of the lines of a file, read in one pass."""

    def __init__(self, lines: Iterator[str], lead: str | None) -> None:
        self.declared: dict[str, str] = {}
        self.column_name: str | None = None
        self._lines = enumerate(lines, start=1)
        self._first: tuple[int, str] | None = None
        for at, line in self._lines:
            if line.startswith("#"):
                key, _, value = line[1:].partition("=")
                self.declared[key.strip().lower()] = value.strip()
            elif line:
                self._first = (at, line)
                break
        if self._first is None:
            raise RecordFormatError("the table has no samples", "export the record again")
        first = self._first[1]
        self._delimiter = next((mark for mark in "\t;," if mark in first), None)
        fields = self._fields(first)
        self._width = len(fields)
        self._column = 0
        if all(_is_number(text) for text in fields):
            if self._width > 1:
                raise RecordFormatError(
                    "the table has several columns and no header row", "name its columns, or keep only the ECG"
                )
        else:
            names = [text.strip().strip('"') for text in fields]
            self._column = choose_lead(names, lead)
            self.column_name = names[self._column]
            self._first = None

    def declared_rate_hz(self, option: Rate) -> Fraction:
        """The rate of the file or of the option; if both, they must agree."""
        stated = self.declared.get("sampling_rate_hz")
        rate_hz = sampling_rate(option if stated is None else stated)
        if option is not None and sampling_rate(option) != rate_hz:
            raise InputError("the rate given differs from the one in the file", "leave the rate out, or correct it")
        return rate_hz

    def declared_unit_uv(self, option: str | None) -> Fraction:
        """Microvolts in one of the unit of the file or of the option; if both, they must agree."""
        unit_uv = microvolts_per(self.declared.get("unit", option))
        if option is not None and microvolts_per(option) != unit_uv:
            raise InputError("the unit given differs from the one in the file", "leave the unit out, or correct it")
        return unit_uv

    def values(self) -> Iterator[float]:
        """The samples as written, NaN where missing."""
        blank = 0
        if self._first is not None:
            yield self._value(*self._first)
        for at, line in self._lines:
            if line.startswith("#"):
                continue
            if not line:
                blank += 1  # blank lines inside are missing samples, at the end of the file they are nothing
                continue
            for _ in range(blank):
                yield math.nan
            blank = 0
            yield self._value(at, line)

    def _fields(self, line: str) -> list[str]:
        return [line] if self._delimiter is None else line.split(self._delimiter)

    def _value(self, at: int, line: str) -> float:
        fields = self._fields(line)
        if len(fields) != self._width:
            raise RecordFormatError(f"line {at} has {len(fields)} fields, not {self._width}", "export the table again")
        text = fields[self._column].strip()
        if not _is_number(text):
            raise RecordFormatError(f"line {at} is not a number", "write one number a field, with a decimal point")
        return math.nan if text.lower() in MISSING_WORDS else float(text)


def _bounded(file: Iterable[str]) -> Iterator[str]:
    """Stripped lines of a text file, none longer than ``MAX_LINE_CHARS``."""
    readline = file.readline  # type: ignore[attr-defined]
    while line := readline(MAX_LINE_CHARS):
        if len(line) >= MAX_LINE_CHARS:
            raise RecordFormatError(f"a line is longer than {MAX_LINE_CHARS} characters", "give a table of numbers")
        yield line.strip()


def _samples(values: Iterator[float], unit_uv: float) -> NDArray[np.int32]:
    blocks: list[NDArray[np.int32]] = []
    block: list[float] = []
    total = 0
    for value in values:
        block.append(value)
        if len(block) == BLOCK_LINES:
            total += len(block)
            if total > MAX_CSV_SAMPLES:
                raise RecordFormatError(f"the table has more than {MAX_CSV_SAMPLES} samples", "split the record")
            blocks.append(as_microvolts(np.array(block) * unit_uv, max_samples=BLOCK_LINES))
            block = []
    blocks.append(as_microvolts(np.array(block, dtype=np.float64) * unit_uv, max_samples=BLOCK_LINES))
    samples_uv = np.concatenate(blocks)
    sample_count(samples_uv.size)
    samples_uv.flags.writeable = False
    return samples_uv


def _is_number(text: str) -> bool:
    text = text.strip()
    if text.lower() in MISSING_WORDS:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python would take 1_000
