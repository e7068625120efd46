"""Everything of a kind, page by page: each row once, whatever begins in the same millisecond."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.einthoven.stored_windows import beats, signal, verdict

from einthoven.errors import InputError
from einthoven.store_memory import MemoryStore
from einthoven.store_paging import PAGE_BEAT_RUNS, PAGE_ROWS, all_audit_entries, all_beats, all_results
from einthoven.store_values import AuditAction, BeatRun


def with_results(starts_ms: Sequence[int]) -> MemoryStore:
    store, segment = MemoryStore(), signal(10)
    store.append_results([verdict(segment, start_ms) for start_ms in starts_ms])
    return store


def starts(store: MemoryStore, **between: int) -> list[tuple[int, int]]:
    return [(one.result.started_at_ms, one.result.counter) for one in all_results(store, **between)]


@settings(max_examples=25)
@given(st.lists(st.sampled_from([0, 1, 2, 7, 7, 7]), max_size=40), st.integers(1, 50))
def test_every_result_comes_once_in_order(offsets: list[int], repeated: int) -> None:
    starts_ms = [offset for offset in offsets for _ in range(repeated)]
    expected = sorted((start_ms, counter) for counter, start_ms in enumerate(starts_ms, 1))
    store = with_results(starts_ms)
    assert starts(store) == expected
    assert starts(store, first_ms=1, last_ms=2) == [one for one in expected if 1 <= one[0] <= 2]


@pytest.mark.parametrize("count", [0, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 3 * PAGE_ROWS])
@pytest.mark.parametrize("step_ms", [0, 1])
def test_pages_meet_without_a_seam(count: int, step_ms: int) -> None:
    assert [counter for _, counter in starts(with_results([n * step_ms for n in range(count)]))] == list(
        range(1, count + 1)
    )


def test_too_many_at_once_are_refused() -> None:
    class Crowded(MemoryStore):
        """Everything begins in one millisecond."""

        def beats(self, first_ms: int, last_ms: int, *, limit: int = 1_000) -> Sequence[BeatRun]:
            return [beats(5)] * limit

    with pytest.raises(InputError, match="millisecond"):
        sum(1 for _ in all_beats(Crowded()))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=12), st.integers(1, 40))
def test_every_run_of_beats_comes_once_in_order(runs: list[tuple[int, int]], repeated: int) -> None:
    store = MemoryStore()
    for start_ms, length_ms in runs:
        for _ in range(repeated):
            store.append_beats(beats(start_ms, start_ms + length_ms))
    found = [(int(run.at_ms[0]), int(run.at_ms[-1])) for run in all_beats(store)]
    assert sorted(found) == sorted((start, start + length) for start, length in runs for _ in range(repeated))
    assert [start for start, _ in found] == sorted(start for start, _ in found)
    overlapping = [run for run in runs if run[0] <= 30 and run[0] + run[1] >= 20]
    assert sum(1 for _ in all_beats(store, first_ms=20, last_ms=30)) == len(overlapping) * repeated


def test_long_runs_that_overlap_many_others_do_not_stop_the_pages() -> None:
    store = MemoryStore()
    for n in range(PAGE_BEAT_RUNS + 50):
        store.append_beats(beats(n, 10**6))
    for n in range(300):
        store.append_beats(beats(1_000 + n, 1_001 + n))
    assert sum(1 for _ in all_beats(store)) == PAGE_BEAT_RUNS + 350


def test_the_audit_trail_comes_whole() -> None:
    store = MemoryStore()
    before = len(store.audit_trail())
    for n in range(PAGE_ROWS + 3):
        store.record(AuditAction.VIEWED, f"{n}", at_ms=n)
    entries = list(all_audit_entries(store))
    assert [entry.seq for entry in entries] == list(range(1, before + PAGE_ROWS + 4))
    assert np.all(np.diff([entry.seq for entry in entries]) == 1)
