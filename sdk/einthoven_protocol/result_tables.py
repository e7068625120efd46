"""The tables of results: those of one device in a run, and those of any device by name.

They deliberately know neither messages nor compression.

Invariants:
    1. A column's number and meaning never change; a new column takes a new number.
    2. The row count is checked before any column is read.
    3. Every value is checked against ``limits`` in both directions.
    4. Columns of a newer version (``limits.MIN_EXTRA_NUMBER`` on) stay with their rows; other unknown ones are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as fields_of
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.canonical_results import RESULT_RANGES, encode_result_rows
from einthoven_protocol.columns import Table, encode_entries, encode_integers, encode_octets, write_table
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.extra_columns import decode_extras, encode_extras
from einthoven_protocol.few_rows import FEW_ROWS
from einthoven_protocol.messages import Extra, IdentifiedResult, ResultRow
from einthoven_protocol.packed_results import (
    RESULT_FIELDS,
    RESULT_FORMAT,
    RESULT_ROW_BYTES,
    IdentifiedResults,
    ResultRows,
)
from einthoven_protocol.start_columns import MAX_STEP_MS, OFFSET_RANGE, lay_on_line, lift_from_line
from einthoven_protocol.verdict_columns import ENTRY_BYTES, Column, PackedVerdicts, Verdicts, pack, unpack

_NUMBERS: Final = {
    "counter": 1,
    "started_at_ms": 2,
    "duration_ms": 3,
    "n_steps": 4,
    "usable_s": 5,
    "quality": 6,
    "rhythm": 7,
    "confidence_permille": 8,
    "tier": 9,
    "reason": 10,
    "front_end_version": 11,
}
_LOGIT_NUMBERS: Final = (12, 13, 14, 15)
_MODEL_NUMBER: Final = 16
_ALIAS_NUMBER: Final = 17
_EPOCH_NUMBER: Final = 18
_VERDICT_NUMBER: Final = 19
_SURPRISE_NUMBER: Final = 20
_OFFSET_NUMBER: Final = 21
_STEP_NUMBER: Final = 22
_DELTA_COLUMNS: Final = frozenset({"counter", "started_at_ms"})
_VERDICT_COLUMNS: Final = tuple(field.name for field in fields_of(Verdicts))
_SURPRISE_RANGE: Final = (-limits.MAX_CONFIDENCE_PERMILLE, limits.MAX_CONFIDENCE_PERMILLE)
_MIN_PACKED_ROWS: Final = 16
"""In fewer rows the distinct verdicts cost more than they save."""
_MAX_DISTINCT_SHARE: Final = 0.5
"""Of the rows; so likewise."""


def encode_results(
    rows: Sequence[ResultRow], max_rows: int = limits.MAX_RESULTS_PER_EXCHANGE, *, packed: bool = False
) -> list[bytes]:
    """Return the parts of a table of results, none for no rows.

    Args:
        rows: The results.
        max_rows: Most of them.
        packed: Whether the reader understands columns 19 to 22 (``Capability.PACKED``).

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    return write_table(len(rows), max_rows, _columns(rows, packed))


def decode_results(octets: bytes | None, max_rows: int = limits.MAX_RESULTS_PER_EXCHANGE) -> Sequence[ResultRow]:
    """Return the results of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    return _rows(Table(octets, max_rows))


def encode_identified_results(
    rows: Sequence[IdentifiedResult], max_rows: int = limits.MAX_RESULTS_PER_EXCHANGE, *, packed: bool = False
) -> list[bytes]:
    """Return the parts of a table of results by name, none for no rows.

    Args:
        rows: The results.
        max_rows: Most of them.
        packed: Whether the reader understands columns 19 to 22 (``Capability.PACKED``).

    Raises:
        OutOfRange: A value is outside its range.
        LimitExceeded: There are too many rows.
    """
    aliases: Sequence[int] | NDArray[np.int64]
    epochs: Sequence[int] | NDArray[np.int64]
    if isinstance(rows, IdentifiedResults):
        columns, aliases, epochs = _columns(rows.rows, packed), rows.aliases, rows.epochs
    else:
        columns = _columns([row.row for row in rows], packed)
        aliases, epochs = [row.device_alias for row in rows], [row.epoch for row in rows]
    columns[_ALIAS_NUMBER] = encode_integers("device_alias", aliases, 0, limits.MAX_DEVICE_ALIAS, delta=True)
    columns[_EPOCH_NUMBER] = encode_integers("epoch", epochs, 1, limits.MAX_EPOCH, delta=True)
    return write_table(len(rows), max_rows, columns)


def decode_identified_results(
    octets: bytes | None, max_rows: int = limits.MAX_RESULTS_PER_EXCHANGE
) -> Sequence[IdentifiedResult]:
    """Return the results of a table by name; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    table = Table(octets, max_rows)
    aliases = table.array(_ALIAS_NUMBER, "device_alias", 0, limits.MAX_DEVICE_ALIAS)
    epochs = table.array(_EPOCH_NUMBER, "epoch", 1, limits.MAX_EPOCH)
    rows = _rows(table)
    if isinstance(rows, ResultRows):
        return IdentifiedResults(aliases, epochs, rows)
    return tuple(
        IdentifiedResult(device_alias=alias, epoch=epoch, row=row)
        for alias, epoch, row in zip(aliases.tolist(), epochs.tolist(), rows, strict=True)
    )


def _columns(rows: Sequence[ResultRow], packed: bool) -> dict[int, list[bytes]]:
    if not rows:
        return {}
    octets, extras = _octets(rows)
    fields = np.frombuffer(octets, RESULT_FIELDS)
    # All fields of all rows at once: reading them one by one takes far longer than packing them.
    values = {name: _column(fields[name]) for name in _NUMBERS}
    logits = fields["logits"].astype(np.int64)
    columns = {
        number: encode_integers(name, values[name], *RESULT_RANGES[name], delta=name in _DELTA_COLUMNS)
        for name, number in _NUMBERS.items()
    }
    for number, column in zip(_LOGIT_NUMBERS, logits.T, strict=True):
        columns[number] = encode_integers("logit", _column(column), limits.MIN_LOGIT, limits.MAX_LOGIT)
    columns[_MODEL_NUMBER] = encode_octets(fields["model_digest"].tolist())
    if packed:
        _pack_starts(columns, values)
        if len(rows) >= _MIN_PACKED_ROWS:
            _pack_verdicts(columns, Verdicts(**{name: values[name] for name in _VERDICT_COLUMNS}), logits)
    return columns | encode_extras(extras, limits.MAX_RESULT_EXTRA_BYTES)


def _column(values: NDArray[Any]) -> Column:
    """A column as ``encode_integers`` likes it: few values are quicker without an array."""
    return values.tolist() if len(values) <= FEW_ROWS else values.astype(np.int64)


def _octets(rows: Sequence[ResultRow]) -> tuple[bytes, Sequence[Extra]]:
    """Canonical bytes of all rows but for further columns, and these."""
    if isinstance(rows, ResultRows):
        return rows.octets, ()
    return b"".join([octets[:RESULT_ROW_BYTES] for octets in encode_result_rows(rows)]), [row.extra for row in rows]


def _pack_starts(columns: dict[int, list[bytes]], values: Mapping[str, Column]) -> None:
    """Put columns 21 and 22 in the place of the starts, where that is shorter."""
    step_ms, offsets_ms = lay_on_line(values["counter"], values["started_at_ms"])
    if not step_ms:
        return
    line = {
        _OFFSET_NUMBER: encode_integers("start's offset", offsets_ms, *OFFSET_RANGE),
        _STEP_NUMBER: encode_integers("step", [step_ms], 1, MAX_STEP_MS),
    }
    if _length(*line.values()) < _length(columns[_NUMBERS["started_at_ms"]]):
        del columns[_NUMBERS["started_at_ms"]]
        columns |= line


def _pack_verdicts(columns: dict[int, list[bytes]], verdicts: Verdicts, logits: NDArray[np.int64]) -> None:
    """Put columns 19 and 20 in the place of six others, where that is worth it."""
    packed = pack(verdicts, logits)
    rows = len(logits)
    if len(packed.entries) > _MAX_DISTINCT_SHARE * rows or 2 * int((packed.surprises == 0).sum()) < rows:
        return
    for name in _VERDICT_COLUMNS:
        del columns[_NUMBERS[name]]
    columns[_VERDICT_NUMBER] = encode_entries(packed.entries, packed.places)
    columns[_SURPRISE_NUMBER] = encode_integers("confidence surprise", packed.surprises, *_SURPRISE_RANGE)


def _length(*columns: Sequence[bytes]) -> int:
    return sum(len(part) for column in columns for part in column)


def _rows(table: Table) -> Sequence[ResultRow]:
    if not table.rows:
        return ()
    fields = np.empty(table.rows, RESULT_FIELDS)
    fields["format"] = RESULT_FORMAT
    read: Callable[[int, str, int, int], Column] = table.integers if table.rows <= FEW_ROWS else table.array
    logits = np.empty((table.rows, len(_LOGIT_NUMBERS)), np.int64)
    for place, number in enumerate(_LOGIT_NUMBERS):
        logits[:, place] = read(number, "logit", limits.MIN_LOGIT, limits.MAX_LOGIT)
    fields["logits"] = logits
    columns: dict[str, NDArray[np.int64]] = {}
    if table.column(_VERDICT_NUMBER) is not None:
        columns = _unpack_verdicts(table, logits)
    if table.column(_STEP_NUMBER) is not None:
        columns["started_at_ms"] = _unpack_starts(table)
    for name, number in _NUMBERS.items():
        fields[name] = columns[name] if name in columns else read(number, name, *RESULT_RANGES[name])
    fields["model_digest"] = _models(table)
    rows = ResultRows(fields.tobytes())
    if not table.numbers(limits.MIN_EXTRA_NUMBER, limits.MAX_EXTRA_NUMBER):
        return rows
    extras = decode_extras(table, limits.MAX_RESULT_EXTRA_BYTES)
    return tuple(
        msgspec.structs.replace(row, extra=extra) if extra else row for row, extra in zip(rows, extras, strict=True)
    )


def _models(table: Table) -> NDArray[np.void]:
    entries, places = table.entries(_MODEL_NUMBER, limits.DIGEST_BYTES)
    if set(map(len, entries)) - {limits.DIGEST_BYTES}:
        raise OutOfRange(f"model_digest is not {limits.DIGEST_BYTES} bytes long")
    return np.frombuffer(b"".join(entries), RESULT_FIELDS["model_digest"])[places]


def _unpack_starts(table: Table) -> NDArray[np.int64]:
    counters = table.array(_NUMBERS["counter"], "counter", *RESULT_RANGES["counter"])
    offsets_ms = table.array(_OFFSET_NUMBER, "start's offset", *OFFSET_RANGE)
    steps_ms = table.array(_STEP_NUMBER, "step", 1, MAX_STEP_MS)
    if (steps_ms != steps_ms[0]).any():
        raise OutOfRange("a table has one step")
    return _within("started_at_ms", lift_from_line(counters, int(steps_ms[0]), offsets_ms))


def _unpack_verdicts(table: Table, logits: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    entries, places = table.entries(_VERDICT_NUMBER, ENTRY_BYTES)
    surprises = table.array(_SURPRISE_NUMBER, "confidence surprise", *_SURPRISE_RANGE)
    verdicts = unpack(PackedVerdicts(entries, places, surprises), logits)
    return {name: _within(name, np.asarray(getattr(verdicts, name))) for name in _VERDICT_COLUMNS}


def _within(name: str, values: NDArray[np.int64]) -> NDArray[np.int64]:
    low, high = RESULT_RANGES[name]
    if int(values.min()) < low or int(values.max()) > high:
        raise OutOfRange(f"{name} is outside {low} to {high}")
    return values
