"""The rules on real rhythms: beats as cardiologists marked them, against the rhythms as they marked them."""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from tests.einthoven.risk_streams import LETTERS, START_MS

from einthoven.results import BeatClass
from einthoven.risk import Episode, RiskBeat, RiskTally

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "mitdb"
PACED = {"102", "104", "107", "217"}
RUNS = {"vt_run", "vt_sustained", "idioventricular_run"}
NEAR_MS = 500

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (FOLDER / "annotations.csv.gz").exists(), reason="no ../shared/data/mitdb"),
]

Spans = list[tuple[int, int]]


def at_ms(sample: str) -> int:
    return START_MS + int(sample) * 1000 // 360


@pytest.fixture(scope="module")
def beats() -> dict[str, list[RiskBeat]]:
    found: dict[str, list[RiskBeat]] = defaultdict(list)
    with gzip.open(FOLDER / "annotations.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["aami"] and row["record_id"] not in PACED:
                before, now = found[row["record_id"]], at_ms(row["sample"])
                rr_ms = now - before[-1].at_ms if before else None
                # A fusion beat (F) is half normal; what EC57 calls Q is not judged.
                kind = LETTERS.get(row["aami"], BeatClass.NORMAL if row["aami"] == "F" else BeatClass.UNKNOWN)
                before.append(RiskBeat(now, rr_ms, kind, 1000, usable=True))
    return dict(found)


@pytest.fixture(scope="module")
def rhythms() -> dict[str, dict[str, Spans]]:
    found: dict[str, dict[str, Spans]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(FOLDER / "rhythms.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["record_id"]][row["rhythm"]].append((at_ms(row["start"]), at_ms(row["end"])))
    return found


def meet(one: tuple[int, int], others: Spans) -> bool:
    return any(one[0] < end + NEAR_MS and start < one[1] + NEAR_MS for start, end in others)


def test_ventricular_runs_are_those_that_were_marked(beats, rhythms):
    found, marked = Counter(), Counter()
    for record, of_record in beats.items():
        tally = RiskTally()
        told: list[Episode] = [*tally.add_beats(of_record), *tally.cut()]
        runs = [(one.start_ms, one.end_ms) for one in told if one.rule.name in RUNS and not one.going_on]
        reference = [*rhythms[record]["VT"], *rhythms[record]["IVR"]]
        found.update(meet(run, reference) for run in runs)
        marked.update(meet(span, runs) for span in reference)
    assert found == {True: 43}
    assert marked == {True: 43}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("106", {"vt_run": 1, "pvc": 520}),
        ("119", {"v_bigeminy": 37, "pvc": 444}),
        ("203", {"vt_run": 21, "v_couplet": 64}),
        ("209", {"s_run_long": 4, "s_run": 6, "pac": 383, "tachycardia_fast": 2}),
        ("201", {"pause_3s": 2, "bradycardia_slow": 3}),
        ("124", {"idioventricular_run": 3}),
        ("101", {"pac": 3}),
    ],
)
def test_what_is_known_of_a_record_is_found(beats, record, expected):
    tally = RiskTally()
    tally.add_beats(beats[record])
    tally.cut()
    counts = {one.rule: one.count for one in tally.assessment().evidence}
    assert {rule: counts.get(rule) for rule in expected} == expected
