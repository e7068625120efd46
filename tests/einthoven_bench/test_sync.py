"""The figures of sync: computed from what was measured, and measured between real parts."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from subprocess import run

import pytest

from einthoven_bench.counting_proxy import Traffic
from einthoven_bench.figures import Figure
from einthoven_bench.sync_content import drawn_results, judged_windows, words
from einthoven_bench.sync_figures import carried_figures, ingest_figures, moved_figures
from einthoven_bench.sync_ingest import Ingested
from einthoven_bench.sync_measuring import Carried, Moved
from einthoven_bench.targets import TARGETS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def by_id(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.id: figure for figure in figures}


def test_rows_a_second_are_of_the_whole_way() -> None:
    runs = [Moved(1_000, 0.1, 0.3, 0.02), Moved(1_000, 0.2, 0.3, 0.04), Moved(1_000, 0.1, 0.1, 0.03)]
    figures = by_id(moved_figures(runs, "made"))

    assert figures["sync.rows_per_s"].value == pytest.approx(2_500)
    assert figures["sync.rows_per_s"].spread == pytest.approx((2_000, 5_000))
    assert figures["sync.rows_per_s"].n == 3
    assert figures["sync.up_rows_per_s"].value == pytest.approx(10_000)
    assert figures["sync.device_cpu_us_per_row"].value == pytest.approx(30)


def test_ingest_counts_all_devices() -> None:
    (rate, client) = ingest_figures([Ingested(40_000, 4, 2.0, 0.4)], "made")

    assert (rate.id, rate.value) == ("sync.ingest_rows_per_s", 20_000)
    assert client.value == pytest.approx(10)
    assert "4 devices, 10000 rows a push" in rate.note


def test_what_a_repair_carried_is_both_ways() -> None:
    carried = Carried(100, Traffic(up=1_200, down=900, connections=0), None)  # type: ignore[arg-type]  # not looked at
    total, trips = carried_figures("repair_100_of_100k", "made", [(carried, 2)])

    assert (total.id, total.value) == ("sync.repair_100_of_100k_bytes", 2_100)
    assert (trips.id, trips.value) == ("sync.repair_100_of_100k_round_trips", 2)


def test_drawn_results_differ_in_time_and_signal() -> None:
    judged = judged_windows(None, 4)
    drawn = drawn_results(judged, 50, seed=1)

    assert len(judged) == 4
    assert len({result.segment_digest for result in drawn}) == 50
    assert [b.started_at_ms - a.started_at_ms for a, b in itertools.pairwise(drawn)] == [30_000] * 49
    assert {result.logits for result in drawn} <= {result.logits for result in judged}
    assert drawn != drawn_results(judged, 50, seed=2)


def test_words_are_always_the_same_and_never_end() -> None:
    said = words(3)
    first = [next(said) for _ in range(40)]
    again = words(3)

    assert first == [next(again) for _ in range(40)]
    assert len(set(first)) > 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_run_measures_every_target(tmp_path: Path) -> None:
    program = f"import runpy, sys\nsys.path.insert(0, {str(BENCHMARKS)!r})\n"
    program += "runpy.run_module('einthoven_bench', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", program, "sync", "--quick", "--json", "--data", str(tmp_path)]
    done = run(command, capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)

    figures = {figure["id"] for figure in document["figures"]}
    assert {name for name in TARGETS if name.startswith("sync.")} <= figures
    assert len(document["left_out"]) == 1
