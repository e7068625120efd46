"""Columns of a newer version, to and from the rows that carry them along (``messages.Extra``, ``FurtherRegister``).

They deliberately take no part in what a row of this version means.

Invariants:
    1. What was read is written again, column for column and value for value.
    2. What all of them take in a row is checked before a row is made: a column of one value is a few bytes, its 10,000
       rows are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.columns import Table, decode_integers, decode_octets, encode_integers, encode_octets
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.extras import INTEGER_BYTES, OCTETS_HEAD_BYTES, extra_octets, register_octets
from einthoven_protocol.messages import Extra, FurtherRegister

_FIRST: Final = limits.MIN_EXTRA_NUMBER
_INTEGER_RANGE: Final = (-(2**63), 2**63 - 1)


def encode_extras(extras: Sequence[Extra], max_bytes: int) -> dict[int, list[bytes]]:
    """Return further columns by number; none if no row has any.

    Args:
        extras: Those of each row.
        max_bytes: Most that they may take in a row (``extras``).

    Raises:
        OutOfRange: A number or value is outside its range, or they take more.
    """
    if not any(extras):
        return {}
    for extra in extras:
        if extra:
            extra_octets(extra, max_bytes)
    held = [dict(extra) for extra in extras]
    columns: dict[int, list[bytes]] = {}
    for number in sorted(set().union(*held)):
        if number % 2:
            columns[number] = encode_octets([bytes(row.get(number, b"")) for row in held])
        else:
            columns[number] = encode_integers(
                "further column", [int(row.get(number, 0)) for row in held], *_INTEGER_RANGE
            )
    return columns


def decode_extras(table: Table, max_bytes: int) -> Sequence[Extra]:
    """Return the further columns of each row.

    Args:
        table: A table whose columns from ``limits.MIN_EXTRA_NUMBER`` on are such.
        max_bytes: Most that they may take in a row.

    Raises:
        ProtocolError: They are none, or take more.
    """
    numbers = table.numbers(_FIRST, limits.MAX_EXTRA_NUMBER)
    if not numbers:
        return [()] * table.rows
    taken = np.zeros(table.rows, np.int64)
    columns: list[tuple[int, Sequence[int | bytes]]] = []
    for number in numbers:
        if number % 2:
            values = decode_octets(table.column(number), table.rows, max_bytes)
            lengths = np.fromiter(map(len, values), np.int64, table.rows)
            taken += np.where(lengths > 0, lengths + OCTETS_HEAD_BYTES, 0)
            columns.append((number, values))
        else:
            integers = decode_integers(table.column(number), table.rows)
            taken += INTEGER_BYTES * (integers != 0)
            columns.append((number, integers.tolist()))
    _require_room(taken, max_bytes)
    rows: list[list[tuple[int, int | bytes]]] = [[] for _ in range(table.rows)]
    for number, column in columns:
        for row, value in zip(rows, column, strict=True):
            if value:
                row.append((number, value))
    return list(map(tuple, rows))


def encode_registers(registers: Sequence[tuple[FurtherRegister, ...]]) -> dict[int, list[bytes]]:
    """Return the columns of further registers by number; none if no row has any.

    Raises:
        OutOfRange: A number, time or value is outside its range.
    """
    if not any(registers):
        return {}
    for row in registers:
        register_octets(row)
    held = [{register.number: register for register in row} for row in registers]
    columns: dict[int, list[bytes]] = {}
    for number in sorted(set().union(*held)):
        nothing = FurtherRegister(number, 0, b"")
        column = [row.get(number, nothing) for row in held]
        times = [register.hlc for register in column]
        columns[_FIRST + 2 * number] = encode_integers("further hlc", times, 0, limits.MAX_HLC, delta=True)
        columns[_FIRST + 2 * number + 1] = encode_octets([register.value for register in column])
    return columns


def decode_registers(table: Table) -> list[tuple[FurtherRegister, ...]]:
    """Return the further registers of each row.

    Raises:
        ProtocolError: They are none.
    """
    last = _FIRST + 2 * limits.MAX_FURTHER_REGISTERS - 1
    rows: list[list[FurtherRegister]] = [[] for _ in range(table.rows)]
    for number in sorted({(number - _FIRST) // 2 for number in table.numbers(_FIRST, last)}):
        times = table.integers(_FIRST + 2 * number, "further hlc", 0, limits.MAX_HLC)
        values = table.octets(_FIRST + 2 * number + 1, "further register", limits.MAX_REGISTER_BYTES)
        for row, hlc, value in zip(rows, times, values, strict=True):
            if hlc or value:
                row.append(FurtherRegister(number, hlc, value))
    return list(map(tuple, rows))


def _require_room(taken: NDArray[np.int64], max_bytes: int) -> None:
    if int(taken.max()) > max_bytes:
        raise OutOfRange(f"further columns take more than {max_bytes} bytes of one row")
