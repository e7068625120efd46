"""New results as one INSERT takes them: thousands of rows as two runs of bytes that the database cuts. Pure.

A COPY would be the usual way, but PostgreSQL refuses one into a table with row-level security (ADR 24). Sealed rows are
nearly all of one length, and shares always are: so rows go as one value for each length, and ``substring`` cuts it.

It deliberately knows one table only: every other takes few rows, and statements with values in arrays.

Invariants:
    1. Every result is in exactly one insert; which stands first does not matter.
    2. No insert has more than ``INSERT_MAX_ROWS`` rows, so that a batch is not held twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from einthoven_protocol.limits import SUM_BYTES
from einthoven_server.records.change_store import NewResults

INSERT_MAX_ROWS: Final = 4_096

# A row's run, its counter and its commit sequence come one by one; what a run has in common is looked up by its place.
INSERT_RESULTS: Final = f"""
INSERT INTO result_row (shard, tenant, device_alias, epoch, counter, patient_id, row_sealed, key_version, row_sum,
                        commit_seq)
SELECT $1::int, $2::text, ($3::int[])[new.run], ($4::int[])[new.run], new.counter, ($5::text[])[new.run],
    substring($10::bytea FROM (new.place::int - 1) * $12::int + 1 FOR $12::int), ($6::int[])[new.run],
    substring($11::bytea FROM (new.place::int - 1) * {SUM_BYTES} + 1 FOR {SUM_BYTES}), new.commit_seq
FROM unnest($7::int[], $8::int[], $9::bigint[]) WITH ORDINALITY AS new(run, counter, commit_seq, place)
"""  # noqa: S608  # a constant of ours


class ResultInsert(NamedTuple):
    """What ``INSERT_RESULTS`` takes after shard and tenant, in its order.

    Attributes:
        aliases: Of each run; a run is results of one device's epoch.
        epochs: Of each run.
        patients: Of each run.
        key_versions: Of each run.
        runs: Of each row, the place of its run, from 1.
        counters: Of each row.
        commit_seqs: Of each row.
        stored: Sealed rows, one after the other.
        sums: Shares, one after the other, ``SUM_BYTES`` each.
        stored_bytes: Length of each sealed row.
    """

    aliases: Sequence[int]
    epochs: Sequence[int]
    patients: Sequence[str]
    key_versions: Sequence[int]
    runs: Sequence[int]
    counters: Sequence[int]
    commit_seqs: Sequence[int]
    stored: bytes
    sums: bytes
    stored_bytes: int


def result_inserts(new: Sequence[NewResults]) -> Iterator[ResultInsert]:
    """All inserts that these results take."""
    by_length: dict[int, list[_Rows]] = defaultdict(list)
    for run, some in enumerate(new, 1):
        stored, shares = some.rows.stored, some.rows.shares
        lengths = set(map(len, stored))
        for length in lengths:
            places = range(len(stored))
            alike = places if len(lengths) == 1 else [place for place in places if len(stored[place]) == length]
            for begin in range(0, len(alike), INSERT_MAX_ROWS):
                part = alike[begin : begin + INSERT_MAX_ROWS]
                by_length[length].append(
                    _Rows(
                        run,
                        [some.rows.counters[place] for place in part],
                        [some.seqs[place] for place in part],
                        b"".join([stored[place] for place in part]),
                        b"".join([shares[place].to_bytes(SUM_BYTES, "big") for place in part]),
                    )
                )
    for length, parts in by_length.items():
        for together in _bounded(parts):
            yield _insert(new, together, length)


class _Rows(NamedTuple):
    """Rows of one run and one length."""

    run: int
    counters: list[int]
    commit_seqs: list[int]
    stored: bytes
    sums: bytes


def _bounded(parts: Sequence[_Rows]) -> Iterator[list[_Rows]]:
    together: list[_Rows] = []
    n_rows = 0
    for part in parts:
        if together and n_rows + len(part.counters) > INSERT_MAX_ROWS:
            yield together
            together, n_rows = [], 0
        together.append(part)
        n_rows += len(part.counters)
    if together:
        yield together


def _insert(new: Sequence[NewResults], parts: Sequence[_Rows], length: int) -> ResultInsert:
    return ResultInsert(
        aliases=[one.device.alias for one in new],
        epochs=[one.epoch for one in new],
        patients=[one.device.patient_id for one in new],
        key_versions=[one.device.patient_key.version for one in new],
        runs=list(chain.from_iterable([part.run] * len(part.counters) for part in parts)),
        counters=list(chain.from_iterable(part.counters for part in parts)),
        commit_seqs=list(chain.from_iterable(part.commit_seqs for part in parts)),
        stored=b"".join([part.stored for part in parts]),
        sums=b"".join([part.sums for part in parts]),
        stored_bytes=length,
    )
