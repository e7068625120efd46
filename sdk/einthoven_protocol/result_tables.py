"""The tables of results: those of one device in a run, and those of any device by name.

They deliberately know neither messages nor compression.

Invariants:
    1. A column's number and meaning never change; a new column takes a new number.
    2. The row count is checked before any column is read.
    3. Every value is checked against ``limits`` in both directions.
    4. Columns of a newer version (``limits.MIN_EXTRA_NUMBER`` on) stay with their rows; other unknown ones are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.canonical_results import RESULT_RANGES
from einthoven_protocol.columns import Table, encode_fixed, encode_integers, encode_octets, write_table
from einthoven_protocol.errors import OutOfRange
from einthoven_protocol.extra_columns import decode_extras, encode_extras
from einthoven_protocol.messages import IdentifiedResult, ResultRow
from einthoven_protocol.start_columns import MAX_STEP_MS, OFFSET_RANGE, lay_on_line, lift_from_line
from einthoven_protocol.verdict_columns import ENTRY_BYTES, Verdicts, pack, unpack

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
_VERDICT_COLUMNS: Final = ("usable_s", "quality", "rhythm", "tier", "reason", "confidence_permille")
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


def decode_results(octets: bytes | None, max_rows: int = limits.MAX_RESULTS_PER_EXCHANGE) -> tuple[ResultRow, ...]:
    """Return the results of a table; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    return tuple(_rows(Table(octets, max_rows)))


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
    columns = _columns([row.row for row in rows], packed)
    aliases, epochs = [row.device_alias for row in rows], [row.epoch for row in rows]
    columns[_ALIAS_NUMBER] = encode_integers("device_alias", aliases, 0, limits.MAX_DEVICE_ALIAS, delta=True)
    columns[_EPOCH_NUMBER] = encode_integers("epoch", epochs, 1, limits.MAX_EPOCH, delta=True)
    return write_table(len(rows), max_rows, columns)


def decode_identified_results(
    octets: bytes | None, max_rows: int = limits.MAX_RESULTS_PER_EXCHANGE
) -> tuple[IdentifiedResult, ...]:
    """Return the results of a table by name; ``None`` is an absent one.

    Raises:
        ProtocolError: It is none that this version accepts.
    """
    table = Table(octets, max_rows)
    aliases = table.integers(_ALIAS_NUMBER, "device_alias", 0, limits.MAX_DEVICE_ALIAS)
    epochs = table.integers(_EPOCH_NUMBER, "epoch", 1, limits.MAX_EPOCH)
    return tuple(
        IdentifiedResult(device_alias=alias, epoch=epoch, row=row)
        for alias, epoch, row in zip(aliases, epochs, _rows(table), strict=True)
    )


def _columns(rows: Sequence[ResultRow], packed: bool) -> dict[int, list[bytes]]:
    if not rows:
        return {}
    # All fields of all rows at once: reading them one by one takes longer than packing them.
    fields: dict[str, tuple[Any, ...]] = dict(
        zip(ResultRow.__struct_fields__, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True)
    )
    columns = {
        number: encode_integers(name, fields[name], *RESULT_RANGES[name], delta=name in _DELTA_COLUMNS)
        for name, number in _NUMBERS.items()
    }
    if set(map(len, fields["logits"])) - {len(_LOGIT_NUMBERS)}:
        raise OutOfRange(f"logits are {len(_LOGIT_NUMBERS)} integers")
    for number, values in zip(_LOGIT_NUMBERS, zip(*fields["logits"], strict=True), strict=True):
        columns[number] = encode_integers("logit", values, limits.MIN_LOGIT, limits.MAX_LOGIT)
    columns[_MODEL_NUMBER] = encode_fixed("model_digest", list(fields["model_digest"]), limits.DIGEST_BYTES)
    if packed:
        _pack_starts(columns, fields)
        if len(rows) >= _MIN_PACKED_ROWS:
            _pack_verdicts(columns, fields)
    return columns | encode_extras(fields["extra"], limits.MAX_RESULT_EXTRA_BYTES)


def _pack_starts(columns: dict[int, list[bytes]], fields: dict[str, tuple[Any, ...]]) -> None:
    """Put columns 21 and 22 in the place of the starts, where that is shorter."""
    step_ms, offsets_ms = lay_on_line(fields["counter"], fields["started_at_ms"])
    if not step_ms:
        return
    line = {
        _OFFSET_NUMBER: encode_integers("start's offset", offsets_ms, *OFFSET_RANGE),
        _STEP_NUMBER: encode_integers("step", [step_ms], 1, MAX_STEP_MS),
    }
    if _length(*line.values()) < _length(columns[_NUMBERS["started_at_ms"]]):
        del columns[_NUMBERS["started_at_ms"]]
        columns |= line


def _pack_verdicts(columns: dict[int, list[bytes]], fields: dict[str, tuple[Any, ...]]) -> None:
    """Put columns 19 and 20 in the place of six others, where that is worth it."""
    verdicts = Verdicts(**{name: fields[name] for name in _VERDICT_COLUMNS})
    entries, surprises = pack(verdicts, np.array(fields["logits"]))
    if len(set(entries)) > _MAX_DISTINCT_SHARE * len(entries) or 2 * surprises.count(0) < len(surprises):
        return
    for name in _VERDICT_COLUMNS:
        del columns[_NUMBERS[name]]
    columns[_VERDICT_NUMBER] = encode_octets(entries)
    columns[_SURPRISE_NUMBER] = encode_integers("confidence surprise", surprises, *_SURPRISE_RANGE)


def _length(*columns: Sequence[bytes]) -> int:
    return sum(len(part) for column in columns for part in column)


def _rows(table: Table) -> list[ResultRow]:
    if not table.rows:
        return []
    logits = [table.integers(number, "logit", limits.MIN_LOGIT, limits.MAX_LOGIT) for number in _LOGIT_NUMBERS]
    columns: dict[str, Sequence[int]] = {}
    if table.column(_VERDICT_NUMBER) is not None:
        columns = _unpack_verdicts(table, np.array(logits).T)
    if table.column(_STEP_NUMBER) is not None:
        columns["started_at_ms"] = _unpack_starts(table)
    for name, number in _NUMBERS.items():
        if name not in columns:
            columns[name] = table.integers(number, name, *RESULT_RANGES[name])
    models = table.fixed(_MODEL_NUMBER, "model_digest", limits.DIGEST_BYTES)
    extras = decode_extras(table, limits.MAX_RESULT_EXTRA_BYTES)
    integers = zip(*(columns[name] for name in _NUMBERS), strict=True)
    return [
        ResultRow(
            counter=counter,
            started_at_ms=start,
            duration_ms=length,
            n_steps=steps,
            usable_s=usable,
            quality=quality,
            rhythm=rhythm,
            confidence_permille=permille,
            logits=pooled,
            tier=tier,
            reason=reason,
            model_digest=model,
            front_end_version=front,
            extra=extra,
        )
        for (
            (counter, start, length, steps, usable, quality, rhythm, permille, tier, reason, front),
            pooled,
            model,
            extra,
        ) in zip(integers, zip(*logits, strict=True), models, extras, strict=True)
    ]


def _unpack_starts(table: Table) -> list[int]:
    counters = table.integers(_NUMBERS["counter"], "counter", *RESULT_RANGES["counter"])
    offsets_ms = table.integers(_OFFSET_NUMBER, "start's offset", *OFFSET_RANGE)
    steps_ms = set(table.integers(_STEP_NUMBER, "step", 1, MAX_STEP_MS))
    if len(steps_ms) != 1:
        raise OutOfRange("a table has one step")
    starts_ms = lift_from_line(counters, steps_ms.pop(), offsets_ms)
    low, high = RESULT_RANGES["started_at_ms"]
    if min(starts_ms) < low or max(starts_ms) > high:
        raise OutOfRange(f"started_at_ms is outside {low} to {high}")
    return starts_ms


def _unpack_verdicts(table: Table, logits: NDArray[np.int64]) -> dict[str, Sequence[int]]:
    entries = table.octets(_VERDICT_NUMBER, "verdict", ENTRY_BYTES)
    surprises = table.integers(_SURPRISE_NUMBER, "confidence surprise", *_SURPRISE_RANGE)
    verdicts = unpack(entries, surprises, logits)
    columns: dict[str, Sequence[int]] = {name: getattr(verdicts, name) for name in _VERDICT_COLUMNS}
    for name, values in columns.items():
        low, high = RESULT_RANGES[name]
        if min(values) < low or max(values) > high:
            raise OutOfRange(f"{name} is outside {low} to {high}")
    return columns
