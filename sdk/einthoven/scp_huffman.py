"""The numbers of an SCP-ECG lead: Huffman codes, and the differences they stand for. Pure.

By EN 1064:2005+A1:2007, clause 5.5 (section 2) and annex C. A code structure has a prefix, that many more bits as a
two's complement number, and a base value to add to it; or it switches to another table. Base codes are stored with
the first bit of the prefix in the lowest bit.

It deliberately builds no codes and encodes nothing.

Invariants:
    1. Every code takes at least one bit, so decoding ends, whatever the tables.
    2. No code is the beginning of another one of its table; a table where one is would be read in two ways.
    3. At most one number a bit is made: memory is in proportion to the lead's bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError

DEFAULT_TABLE: Final = 19_999
"""Instead of a number of tables: the default table of annex C."""
MAX_TABLES: Final = 64
MAX_PREFIX_BITS: Final = 32
MAX_EXTRA_BITS: Final = 16
MAX_DIFFERENCE_ORDER: Final = 2
_STRUCTURE: Final = struct.Struct("<BBBhI")
_REMEDY: Final = "export the record again"


@dataclass(frozen=True, slots=True)
class Code:
    """What one prefix stands for.

    Attributes:
        extra_bits: Bits after the prefix, a two's complement number.
        base: What is added to that number; of a switch, the table that follows, from 1.
        switches: Whether it selects a table, and is no sample.
    """

    extra_bits: int
    base: int
    switches: bool = False


Table = dict[str, Code]
"""Codes by their prefix, first bit first, as '0' and '1'."""


def _default_table() -> Table:
    table = {"0": Code(0, 0), "1" * 9 + "0": Code(8, 0), "1" * 10: Code(16, 0)}
    for size in range(1, 9):
        table["1" * size + "00"] = Code(0, size)
        table["1" * size + "01"] = Code(0, -size)
    return table


def read_tables(section_2: bytes) -> tuple[Table, ...]:
    """Return the tables of section 2; none at all means that samples are plain 16-bit numbers.

    Raises:
        RecordFormatError: Truncated, or a table that can't be decoded with.
    """
    n_tables = int.from_bytes(section_2[:2], "little")
    if n_tables == DEFAULT_TABLE:
        return (_default_table(),)
    if n_tables > MAX_TABLES:
        raise RecordFormatError("the number of Huffman tables is not possible", _REMEDY)
    tables, at = [], 2
    for _ in range(n_tables):
        n_codes = int.from_bytes(section_2[at : at + 2], "little")
        end = at + 2 + n_codes * _STRUCTURE.size
        if n_codes == 0 or end > len(section_2):
            raise RecordFormatError("a Huffman table reaches beyond its section", _REMEDY)
        tables.append(_table(section_2[at + 2 : end], n_tables))
        at = end
    return tuple(tables)


def _table(structures: bytes, n_tables: int) -> Table:
    table: Table = {}
    for prefix_bits, all_bits, mode, base, base_code in _STRUCTURE.iter_unpack(structures):
        extra_bits, switches = all_bits - prefix_bits, mode == 0
        possible = 1 <= prefix_bits <= MAX_PREFIX_BITS and 0 <= extra_bits <= MAX_EXTRA_BITS
        if not possible or mode > 1 or base_code >> prefix_bits or (switches and not 1 <= base <= n_tables):
            raise RecordFormatError("a code of a Huffman table is not possible", _REMEDY)
        prefix = f"{base_code:0{prefix_bits}b}"[::-1]
        if prefix in table:
            raise RecordFormatError("two codes of a Huffman table are the same", _REMEDY)
        table[prefix] = Code(extra_bits, base, switches)
    ordered = sorted(table)
    if any(later.startswith(earlier) for earlier, later in pairwise(ordered)):
        raise RecordFormatError("a code of a Huffman table begins with another one", _REMEDY)
    return table


def decode_lead(encoded: bytes, tables: Sequence[Table], n_samples: int, order: int) -> NDArray[np.int64]:
    """Return the samples of one lead, int64 [n_samples], in counts.

    Args:
        encoded: The lead's bytes.
        tables: From ``read_tables``; the first one is selected at the start.
        n_samples: How many there are.
        order: 0 for samples, 1 or 2 for first or second differences.

    Raises:
        RecordFormatError: They end early, or hold a code of no table.
    """
    if not 0 <= order <= MAX_DIFFERENCE_ORDER:
        raise RecordFormatError("this kind of differences is not known", _REMEDY)
    if n_samples > len(encoded) * (8 if tables else 0.5):  # a code takes a bit at least, a plain sample 16
        raise RecordFormatError("a lead is shorter than its definition claims", _REMEDY)
    if tables:
        numbers = np.array(_decode(encoded, tables, n_samples), dtype=np.int64)
    else:
        numbers = np.frombuffer(encoded, dtype="<i2", count=n_samples).astype(np.int64)
    return integrated(numbers, order)


def integrated(numbers: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Undo differences; the first ``order`` numbers are samples (clause 5.9.5)."""
    if order == 0 or numbers.size < 2:
        return numbers
    steps = numbers.copy()
    if order == 2:
        steps[1] -= steps[0]
        steps[1:] = np.cumsum(steps[1:])
    return np.cumsum(steps)


def _decode(encoded: bytes, tables: Sequence[Table], n_samples: int) -> list[int]:
    bits = f"{int.from_bytes(encoded, 'big'):0{8 * len(encoded)}b}"
    lengths = [sorted({len(prefix) for prefix in table}) for table in tables]
    numbers: list[int] = []
    selected, at = 0, 0
    while len(numbers) < n_samples:
        table = tables[selected]
        for length in lengths[selected]:
            code = table.get(bits[at : at + length])
            if code is not None:
                break
        else:
            raise RecordFormatError("a lead holds a code of no Huffman table", _REMEDY)
        at += length
        extra = bits[at : at + code.extra_bits]
        if len(extra) < code.extra_bits:
            raise RecordFormatError("a lead ends within a code", _REMEDY)
        at += code.extra_bits
        if code.switches:
            selected = code.base - 1
            continue
        number = int(extra, 2) - (extra[0] == "1") * 2**code.extra_bits if extra else 0
        numbers.append(code.base + number)
    return numbers
