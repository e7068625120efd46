"""`einthoven-bench store`: one document with every figure, whose parts measure what they say."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import numpy as np
import pytest

from einthoven_bench.figures import Figure
from einthoven_bench.store_canaries import CanaryOutcome, canary_figures
from einthoven_bench.store_cold_open import OpenTask, measure_opening, open_figures
from einthoven_bench.store_committing import CommitTask, commit_figures, measure_commits
from einthoven_bench.store_content import RATE_HZ, disk_of, made_results, made_windows, store_files
from einthoven_bench.store_day import resident_kib
from einthoven_bench.store_day_run import DAY_S, DayOutcome, DayTask, day_figures, measure_day, write_signal
from einthoven_bench.store_inserting import InsertOutcome, InsertTask, insert_figures, measure_insert
from einthoven_bench.store_plain import plain_store
from einthoven_bench.store_run import StoreOptions, StoreRun
from einthoven_bench.store_withstanding import tamper_figure
from einthoven_bench.targets import TARGETS

MakeRoot = Callable[..., Path]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def by_id(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.id: figure for figure in figures}


def silent(what: str, done: int = 0, total: int = 0) -> None:
    """Nobody listens."""


def test_insert_counts_rows_of_both_sides_and_compares_pair_by_pair() -> None:
    outcome = InsertOutcome(encrypted_s=[2.0, 1.0, 4.0], plain_s=[1.0, 1.0, 3.0], rows=100, disk="ext4 on vda")
    figures = by_id(insert_figures(outcome))

    assert figures["store.insert_rows_per_s"].value == 50
    assert figures["store.insert_ratio_to_plain_sqlite"].value == 0.75
    assert figures["store.insert_ratio_to_plain_sqlite"].n == 300


def test_insert_measures_both_sides() -> None:
    outcome = measure_insert(InsertTask(rows=500, pairs=2))

    assert len(outcome.encrypted_s) == len(outcome.plain_s) == 2
    assert min(outcome.encrypted_s + outcome.plain_s) > 0


def test_the_plain_twin_holds_the_same_and_is_plain(tmp_path: Path) -> None:
    results = made_results(300)
    with plain_store(tmp_path / "ecg.db") as store:
        assert store.append_results(results) == range(1, 301)
        assert [one.segment_digest for one in store.results(limit=300)] == [one.segment_digest for one in results]

    content = (tmp_path / "ecg.db").read_bytes()
    assert content.startswith(b"SQLite format 3\x00")
    assert results[7].segment_digest in content


def test_commits_are_measured_while_a_reader_reads() -> None:
    outcome = measure_commits(CommitTask(root=None, commits=20, stored=3_000))
    figures = by_id(commit_figures(outcome, "constructed signal"))

    assert outcome.read > 0
    assert len(outcome.reading_s) == len(outcome.alone_s) == 20
    p99 = figures["store.commit_p99_ms"]
    assert p99.value == pytest.approx(1e3 * np.percentile(outcome.reading_s, 99))
    # Which of two tails of twenty is longer is the disk's to say, so each is held to its own times.
    assert figures["store.bare_sync_p99_ms"].value == pytest.approx(1e3 * np.percentile(outcome.sync_s, 99))
    share = 100 * np.median(outcome.sync_s) / np.median(outcome.alone_s)
    assert f"which is {share:.0f} % of a commit's" in figures["store.bare_sync_p99_ms"].note


def test_windows_are_signal_that_no_other_has(make_root: MakeRoot) -> None:
    windows = made_windows(None, 5)

    assert len({window.result.segment_digest for window in windows}) == 5
    assert all(window.segment.sampling_rate_hz == RATE_HZ for window in windows)


def test_a_cold_opening_is_another_process() -> None:
    outcome = measure_opening(OpenTask(stored=2_000, openings=2))
    figure = open_figures(outcome)[0]

    assert len(outcome.open_ms) == 2
    assert min(outcome.open_ms) <= figure.value <= max(outcome.open_ms)
    assert "2000 results" in figure.note


def test_a_short_day_gives_memory_but_no_size_of_a_day() -> None:
    outcome = measure_day(DayTask(root=None, duration_s=95))
    figures = by_id(day_figures(outcome, "constructed signal"))

    assert outcome.said["seconds"] == 95
    assert outcome.said["events"] > 90
    assert set(figures) == {"store.rss_mb"}
    assert 20 < figures["store.rss_mb"].value < 200
    assert "MB a day at that rate" in figures["store.rss_mb"].note


def test_a_whole_day_counts_every_file_but_the_ballast() -> None:
    said = {"seconds": DAY_S, "events": 1, "wall_s": 100.0, "cpu_s": 90.0, "highest_kib": 70_000, "last_kib": 69_000}
    files = {"": 12_000_000, "-wal": 500_000, ".anchor": 200, ".keys": 300, ".reserve": 2_000_000}
    figures = by_id(day_figures(DayOutcome(said, files, "ext4 on vda"), "signal"))

    assert figures["store.day_mb"].value == pytest.approx(12.5005)
    assert figures["store.rss_mb"].value == pytest.approx(71.68)


def test_a_system_that_does_not_tell_leaves_memory_out(tmp_path: Path) -> None:
    said = {"seconds": DAY_S, "events": 1, "wall_s": 1.0, "cpu_s": 1.0, **resident_kib(tmp_path / "none")}

    assert set(by_id(day_figures(DayOutcome(said, {"": 1}, ""), "signal"))) == {"store.day_mb"}


def test_a_signal_is_joined_and_begun_again(make_root: MakeRoot, tmp_path: Path) -> None:
    write_signal(tmp_path / "signal", DayTask(root=None, duration_s=1_201))

    assert (tmp_path / "signal").stat().st_size == 2 * 300 * 1_201


def test_files_are_counted_by_their_ending(tmp_path: Path) -> None:
    for name, size in {"ecg.db": 3, "ecg.db-wal": 4, "ecg.key": 5}.items():
        (tmp_path / name).write_bytes(bytes(size))

    assert store_files(tmp_path) == {"": 3, "-wal": 4}


def test_a_disk_is_named_without_a_path(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 {os.major(device)}:{os.minor(device)} / /somewhere rw - btrfs /dev/x rw\n")

    assert disk_of(tmp_path, mounts, tmp_path) == "btrfs on memory"
    assert disk_of(tmp_path, tmp_path / "none") == "an unknown disk"


def test_found_canaries_are_added_up() -> None:
    outcome = CanaryOutcome(needles=9, found={"store, open": 2, "said, fail": 1}, places={"store, open": 5}, control=9)

    assert canary_figures(outcome)[0].value == 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tampering_is_a_ratio_over_all_ways() -> None:
    (figure,) = tamper_figure()

    assert figure.value == 1
    assert figure.n > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_run_measures_every_target_but_the_day(tmp_path: Path) -> None:
    program = f"import runpy, sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n"
    program += "runpy.run_module('einthoven_bench', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", program, "store", "--quick", "--json", "--data", str(tmp_path), "--no-tamper"]
    done = run([*command, "--crash-points", "0"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)

    figures = {figure["id"] for figure in document["figures"]}
    wanted = {name for name in TARGETS if name.startswith("store.")}
    assert wanted - figures == {
        "store.day_mb",
        "store.crash_points",
        "store.crash_rows_lost",
        "store.crash_not_one_key",
        "store.tamper_detected_ratio",
    }
    assert len(document["left_out"]) == 3


def test_a_folder_of_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no such folder"):
        StoreRun(tmp_path / "none", StoreOptions(), silent)
