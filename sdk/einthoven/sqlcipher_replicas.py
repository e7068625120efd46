"""Results that came down, in the encrypted store (``store_rules``, R11, R16, R20, R24), many at a time.

Runs inside the caller's transaction and deliberately begins and commits none.

Invariants:
    1. What is not here yet is written without a look-up of its own; what is, is found by one question an epoch.
    2. Every change of what the server is known to hold is told to the buckets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from einthoven.sqlcipher_books import EpochLine, link_line
from einthoven.sqlcipher_buckets import Buckets
from einthoven.sqlcipher_row_reading import Row, RowReader
from einthoven.sqlcipher_rows import SqlCipherRows
from einthoven.store_schema import COUNTER_BITS, epoch_and_counter, position_of
from einthoven_protocol.canonical import decode_result_row, encode_result_row
from einthoven_protocol.limits import SUM_BYTES
from einthoven_protocol.messages import BucketKind, IdentifiedResult
from einthoven_protocol.packed_results import IdentifiedResults, ResultRows

SHARES_PER_RUN = 1_024
"""Shares of dropped results that one row holds."""

_ANYTHING_THERE = """SELECT EXISTS (SELECT 1 FROM replica WHERE device_alias = ?1 AND position BETWEEN ?2 AND ?3)
    OR EXISTS (SELECT 1 FROM dropped_run WHERE device_alias = ?1 AND first_position <= ?3 AND last_position >= ?2)"""
_AFTER_COUNTER = 5
"""Where canonical bytes of a result go on behind its counter."""
_Line = tuple[int, int, int, int, bytes]
# Of thousands of plain tuples of numbers the garbage collector keeps no account, of named ones it does.


class ReplicaLine(NamedTuple):
    """A row of table ``replica``."""

    device_alias: int
    position: int
    started_at_ms: int
    history: int
    body: bytes


def hear_results(
    rows: SqlCipherRows, results: Sequence[IdentifiedResult], bodies: Sequence[bytes], buckets: Buckets
) -> None:
    """R11: keep results that came down.

    Args:
        rows: Writes.
        results: Any.
        bodies: Canonical bytes of each.
        buckets: Are told.
    """
    history = link_line(rows).history
    if isinstance(results, IdentifiedResults):
        for alias, epoch, some in _by_epoch(results):
            if not _hear_new(rows, alias, epoch, some, buckets):
                _hear_lines(rows, alias, epoch, _lines(alias, epoch, some, history), buckets)
        return
    by_epoch: defaultdict[tuple[int, int], dict[int, _Line]] = defaultdict(dict)
    for result, body in zip(results, bodies, strict=True):
        alias, epoch, row = result.device_alias, result.epoch, result.row
        position = epoch << COUNTER_BITS | row.counter
        by_epoch[alias, epoch][position] = (alias, position, row.started_at_ms, history, body)
    for (alias, epoch), lines in by_epoch.items():
        _hear_lines(rows, alias, epoch, lines, buckets)


def _by_epoch(results: IdentifiedResults) -> Iterator[tuple[int, int, ResultRows]]:
    """Device, epoch and results of each epoch among these."""
    names = results.aliases << COUNTER_BITS | results.epochs
    if not len(names):
        return
    if (names == names[0]).all():
        yield int(results.aliases[0]), int(results.epochs[0]), results.rows
        return
    fields = results.rows.fields
    for name in dict.fromkeys(names.tolist()):
        yield name >> COUNTER_BITS, name & (1 << COUNTER_BITS) - 1, ResultRows(fields[names == name].tobytes())


def _hear_new(rows: SqlCipherRows, alias: int, epoch: int, results: ResultRows, buckets: Buckets) -> bool:
    """Keep another device's results of one epoch, if nothing is known of any place from the first to the last."""
    counters = results.fields["counter"].astype(np.int64)
    if alias == buckets.keys.own_alias or (np.diff(counters) <= 0).any():
        return False
    span = (alias, position_of(epoch, int(counters[0])), position_of(epoch, int(counters[-1])))
    (known,) = rows.connection.execute(_ANYTHING_THERE, span).fetchone()
    if known:
        return False
    rows.insert_replica_run(alias, epoch, link_line(rows).history, results)
    buckets.result_run(alias, epoch, results.split())
    return True


def _lines(alias: int, epoch: int, results: ResultRows, history: int) -> dict[int, _Line]:
    positions = (results.fields["counter"].astype(np.int64) + position_of(epoch, 0)).tolist()
    starts_ms = results.fields["started_at_ms"].tolist()
    return {
        position: (alias, position, start_ms, history, body)
        for position, start_ms, body in zip(positions, starts_ms, results.split(), strict=True)
    }


def _hear_lines(rows: SqlCipherRows, alias: int, epoch: int, lines: dict[int, _Line], buckets: Buckets) -> None:
    for position in _dropped_among(rows, alias, lines):
        del lines[position]
    if lines and alias == buckets.keys.own_alias:
        _leave_out_held(rows, epoch, lines, buckets)
    if lines:
        _put(rows, alias, lines, buckets)


def _put(rows: SqlCipherRows, alias: int, lines: dict[int, _Line], buckets: Buckets) -> None:
    there = rows.select(
        "replica", "WHERE device_alias = ? AND position BETWEEN ? AND ?", (alias, min(lines), max(lines))
    )
    for line in [ReplicaLine(*row) for row in there]:
        now = lines.get(line.position)
        if now is None:
            continue
        if line == now:
            del lines[line.position]
            continue
        drop_replica(rows, line, now[3], buckets)
    new = [lines[position] for position in sorted(lines)]
    rows.insert_replicas(new)
    buckets.results(alias, [(line[1], line[4]) for line in new])


def _leave_out_held(rows: SqlCipherRows, epoch: int, lines: dict[int, _Line], buckets: Buckets) -> None:
    """Leave out what this store holds itself; what was thought lost on the server is not."""
    found = rows.get("epoch", (epoch,))
    if found is None:
        return
    line, span = EpochLine(*found), (min(lines), max(lines))
    refused = {position_of(row[0], row[1]) for row in rows.select("refusal", "WHERE epoch = ?", (epoch,))}
    lost = {row[0] for row in rows.select("to_give", "WHERE position BETWEEN ? AND ?", span)}
    ahead = {row[0] for row in rows.select("alert_sent", "WHERE held AND position BETWEEN ? AND ?", span)}
    mark = position_of(epoch, line.acknowledged)
    for position, _, body, _ in list(rows.select("result", "WHERE position BETWEEN ? AND ?", span)):
        if position not in lines:
            continue
        if position in lost and lines[position][4] == body:
            rows.delete("to_give", (position,))
            buckets.results(buckets.keys.own_alias, [(position, body)])
            lost.discard(position)
        held = position in ahead if position > mark else position not in refused and position not in lost
        if held:
            del lines[position]


def drop_replica(rows: SqlCipherRows, line: ReplicaLine, history: int, buckets: Buckets) -> None:
    """Remove a replica."""
    rows.delete("replica", line[:2])
    if line.history == history:
        buckets.results(line.device_alias, [(line.position, line.body)], -1)


def drop_replicas_at(rows: SqlCipherRows, positions: Sequence[int], buckets: Buckets) -> None:
    """R11: own results at these places, ascending, were found to be held: what stands beside them goes."""
    if not positions:
        return
    history, own = link_line(rows).history, positions if isinstance(positions, range) else set(positions)
    clause = "WHERE device_alias = ? AND position BETWEEN ? AND ?"
    span = (buckets.keys.own_alias, positions[0], positions[-1])
    for line in [ReplicaLine(*row) for row in rows.select("replica", clause, span)]:
        if line.position in own:
            drop_replica(rows, line, history, buckets)


def find_replica(rows: RowReader, device_alias: int, position: int) -> ReplicaLine | None:
    """One replica."""
    row = rows.get("replica", (device_alias, position))
    return None if row is None else ReplicaLine(*row)


def find_equal(
    rows: RowReader, own_alias: int, results: Sequence[Row], came: Sequence[IdentifiedResult]
) -> list[list[int]]:
    """R7: where each of some own results came down from, before or in this very answer, ascending.

    Args:
        rows: Reads.
        own_alias: Of this device.
        results: Rows of table ``result``.
        came: Results of the answer.
    """
    here: defaultdict[bytes, set[int]] = defaultdict(set)
    for one in came:
        if one.device_alias == own_alias:
            here[_content(encode_result_row(one.row))].add(position_of(one.epoch, one.row.counter))
    history = link_line(rows).history
    return [
        sorted({*_equal_replicas(rows, own_alias, row, history), *here.get(_content(row[2]), ())}) for row in results
    ]


def _equal_replicas(rows: RowReader, own_alias: int, result: Row, history: int) -> list[int]:
    clause = "WHERE device_alias = ? AND started_at_ms = ? AND history = ?"
    found = [ReplicaLine(*row) for row in rows.select("replica", clause, (own_alias, result[1], history))]
    return [line.position for line in found if is_same_result(line.body, result[2])]


def is_same_result(one: bytes, other: bytes) -> bool:
    """Whether two canonical rows are equal but for their counters."""
    return _content(one) == _content(other)


def _content(body: bytes) -> bytes:
    """A canonical row without its counter."""
    return body[:1] + body[_AFTER_COUNTER:]


def forget_known(rows: SqlCipherRows, line: ReplicaLine, buckets: Buckets) -> None:
    """R24: an own replica that the server lacks stays, and is not known to be held."""
    drop_replica(rows, line, link_line(rows).history, buckets)
    rows.insert("replica", line._replace(history=-1))


def read_replicas(rows: RowReader, first_ms: int, last_ms: int, limit: int, own_alias: int) -> list[IdentifiedResult]:
    """R11: those beside no own result, in order of (start, name)."""
    found = rows.select(
        "replica",
        """WHERE started_at_ms BETWEEN ? AND ? AND NOT (device_alias = ? AND EXISTS (
            SELECT 1 FROM result WHERE result.position = replica.position))
            ORDER BY started_at_ms, device_alias, position LIMIT ?""",
        (max(first_ms, 0), min(last_ms, 2**62), own_alias, limit),
    )
    return [identified(ReplicaLine(*row)) for row in found]


def identified(line: ReplicaLine) -> IdentifiedResult:
    """The result of a line.

    Raises:
        ValueError: It is not the result of its position.
    """
    epoch, counter = epoch_and_counter(line.position)
    row = decode_result_row(line.body)
    if row.counter != counter:
        raise ValueError("not the result of this counter")
    return IdentifiedResult(device_alias=line.device_alias, epoch=epoch, row=row)


# ---- shares of what was dropped --------------------------------------------------------------------------------------


def keep_shares(rows: SqlCipherRows, owner: int, shares: Iterable[tuple[int, int]]) -> None:
    """R20: keep the shares of results that were dropped.

    Args:
        rows: Writes.
        owner: Whose they are.
        shares: Position and share of each, by position ascending.
    """
    first, run = 0, bytearray()
    for position, share in shares:
        if run and (position != first + len(run) // SUM_BYTES or len(run) == SHARES_PER_RUN * SUM_BYTES):
            _put_run(rows, owner, first, bytes(run))
            run.clear()
        first = first if run else position
        run += share.to_bytes(SUM_BYTES, "big")
    if run:
        _put_run(rows, owner, first, bytes(run))


def forget_share(rows: SqlCipherRows, owner: int, position: int, buckets: Buckets) -> bool:
    """Forget the share of one dropped result; return whether there was one."""
    clause = "WHERE device_alias = ? AND ? BETWEEN first_position AND last_position"
    row = rows.find("dropped_run", clause, (owner, position))
    if row is None:
        return False
    _, first, _, shares = row
    at = (position - first) * SUM_BYTES
    rows.delete("dropped_run", (owner, first))
    if at:
        _put_run(rows, owner, first, shares[:at])
    if at + SUM_BYTES < len(shares):
        _put_run(rows, owner, position + 1, shares[at + SUM_BYTES :])
    if buckets.keys.of(owner) is not None:
        buckets.change(owner, BucketKind.RECORDS, [int.from_bytes(shares[at : at + SUM_BYTES], "big")], -1)
    return True


def _put_run(rows: SqlCipherRows, owner: int, first: int, shares: bytes) -> None:
    rows.put("dropped_run", (owner, first, first + len(shares) // SUM_BYTES - 1, shares))


def _dropped_among(rows: RowReader, owner: int, positions: Iterable[int]) -> list[int]:
    """Which of these places are those of dropped results."""
    runs = rows.connection.execute(
        "SELECT first_position, last_position FROM dropped_run WHERE device_alias = ? ORDER BY first_position", (owner,)
    ).fetchall()
    if not runs:
        return []
    firsts = [first for first, _ in runs]
    found = []
    for position in positions:
        at = bisect_right(firsts, position) - 1
        if at >= 0 and position <= runs[at][1]:
            found.append(position)
    return found
