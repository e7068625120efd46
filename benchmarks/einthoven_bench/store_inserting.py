"""Batch insert: results into the encrypted store, and into the same store without encryption, in turns.

Both sides run the same statements, tags, threads and syncs on the same disk; only the key is missing on one
(``store_plain``). They take turns pair by pair, the order changing, and the ratio is that of each pair, so that what
else happens on the machine falls on both. It deliberately times nothing but ``append_results``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.keys import StaticKeyProvider
from einthoven.results import WindowResult
from einthoven.store_rules import MAX_ROWS_PER_CALL
from einthoven.store_sqlcipher import SqlCipherStore
from einthoven_bench.figures import Figure
from einthoven_bench.store_content import disk_of, made_results, median_and_spread
from einthoven_bench.store_plain import plain_store

ROWS: Final = 200_000
"""Results of one run."""
PAIRS: Final = 7


@dataclass(frozen=True, slots=True)
class InsertTask:
    """How much to insert, how often, and where."""

    rows: int = ROWS
    pairs: int = PAIRS
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class InsertOutcome:
    """Seconds of each run, encrypted and plain in the same order, and where."""

    encrypted_s: list[float]
    plain_s: list[float]
    rows: int
    disk: str


def measure_insert(task: InsertTask) -> InsertOutcome:
    """Insert in turns; a pair that warms up both is not counted."""
    results = made_results(task.rows)
    encrypted_s: list[float] = []
    plain_s: list[float] = []
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        for pair in range(task.pairs + 1):
            sides = [(encrypted_s, encrypted_store), (plain_s, plain_store)]
            for times, make in sides if pair % 2 else reversed(sides):
                times.append(_insert_s(Path(folder), make, results))
        disk = disk_of(Path(folder))
    return InsertOutcome(encrypted_s[1:], plain_s[1:], task.rows, disk)


def encrypted_store(path: Path) -> SqlCipherStore:
    """Make a store under a key that is thrown away with it."""
    return SqlCipherStore.open(path, StaticKeyProvider(bytes(range(1, 33))))


def _insert_s(folder: Path, make: Callable[[Path], SqlCipherStore], results: list[WindowResult]) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as own, make(Path(own) / "ecg.db") as store:
        began = time.perf_counter()
        for start in range(0, len(results), MAX_ROWS_PER_CALL):
            store.append_results(results[start : start + MAX_ROWS_PER_CALL])
        return time.perf_counter() - began


def insert_figures(outcome: InsertOutcome) -> list[Figure]:
    """Rows a second, and the ratio of the rates pair by pair."""
    n = outcome.rows * len(outcome.encrypted_s)
    rate, spread = median_and_spread([outcome.rows / seconds for seconds in outcome.encrypted_s])
    plain, _ = median_and_spread([outcome.rows / seconds for seconds in outcome.plain_s])
    pairs = list(zip(outcome.encrypted_s, outcome.plain_s, strict=True))
    ratio, ratios = median_and_spread([without / encrypted for encrypted, without in pairs])
    runs = f"{len(pairs)} runs of {outcome.rows} results, {MAX_ROWS_PER_CALL} a call and a commit; {outcome.disk}"
    return [
        Figure("store.insert_rows_per_s", rate, "1/s", n, spread, f"append_results, wall, median of {runs}"),
        Figure(
            "store.insert_ratio_to_plain_sqlite",
            ratio,
            "1",
            n,
            ratios,
            f"rate over that of the same store in plain SQLite (median {plain:.0f}/s), in turns, median of "
            f"{len(pairs)} pairs; same library, tables, tags, syncs",
        ),
    ]
