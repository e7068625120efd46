"""The beat classifier's training: counts by EC57, made-up arrhythmias, folds without leaks, integers like floats."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from einthoven.beat_class_tables import BeatClassTablesEntry, read_tables
from einthoven.beat_tables import EXACT_FLOAT32, layers_from
from einthoven.errors import ModelCorrupt
from einthoven.resampling import MODEL_RATE_HZ
from einthoven.simulator import SimulatedRhythm, simulate
from einthoven_conversion.beat_classes import __main__ as command
from einthoven_conversion.beat_classes import network, synthesis
from einthoven_conversion.beat_classes.copies import MADE, copies
from einthoven_conversion.beat_classes.counting import Counts, count, intervals, labels_of, measures, pooled
from einthoven_conversion.beat_classes.examples import ORIGINAL, Described, describe_all
from einthoven_conversion.beat_classes.page import BEGIN, END, write_figures
from einthoven_conversion.beat_classes.recordings import ClassRecording, read_class_recordings
from einthoven_conversion.beat_classes.scoring import cross_validated_figures, figures, score_mitdb
from einthoven_conversion.beat_classes.training import (
    BeatClassRecipe,
    Validated,
    examples_of,
    fit,
    folds_of,
    logits_of,
)
from einthoven_conversion.beats.network import INPUT_ONE, forward, quantize
from einthoven_conversion.errors import DatasetCorrupt, DatasetNotFound, DatasetUnknown, TrainingFailed

RATE_HZ = 360
PVC, PAC = "V", "A"


def heart(seconds: int, seed: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Two leads int16 [2, n] at 360 Hz with ectopic beats, and its marks."""
    rng = np.random.default_rng(seed)
    at = np.arange(12.0, seconds - 5, 4.0) + rng.uniform(-0.5, 0.5)
    ecg = simulate(
        SimulatedRhythm(
            duration_s=seconds,
            sampling_rate_hz=Fraction(RATE_HZ),
            seed=seed,
            heart_rate_bpm=float(rng.uniform(60, 85)),
            pvc_at_s=tuple(at[::2]),
            pac_at_s=tuple(at[1::2]),
        )
    )
    lead = ecg.samples_uv.astype(np.int16)
    marks = list(zip(ecg.r_peaks.tolist(), [str(kind.value) for kind in ecg.beat_kinds], strict=True))
    return np.stack([lead, -lead // 2]), marks


AAMI = {"N": "N", "A": "S", "V": "V"}


def write_mitdb(
    root: Path, records: dict[str, tuple[np.ndarray, list[tuple[int, str]]]], groups: dict[str, str]
) -> None:
    """A data set in the layout of the data folder."""
    folder = root / "mitdb"
    folder.mkdir(parents=True)
    flat = [np.diff(leads, axis=1, prepend=np.int16(0)).astype(np.int16).reshape(-1) for leads, _ in records.values()]
    np.savez_compressed(
        folder / "records_000.npz",
        record_id=np.array(list(records)),
        channels=np.full(len(flat), 2, np.int16),
        samples=np.array([leads.shape[1] for leads, _ in records.values()], np.int32),
        start=np.concatenate([[0], np.cumsum([len(one) for one in flat])]),
        delta=np.concatenate(flat),
    )
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as out:
        lines = csv.writer(out)
        lines.writerow(["record_id", "shard", "row", "subject_id", "fs_hz", "leads", "mlii_channel", "group"])
        for row, record_id in enumerate(records):
            lines.writerow([record_id, "records_000.npz", row, record_id, RATE_HZ, "MLII;V1", 0, groups[record_id]])
    with gzip.open(folder / "annotations.csv.gz", "wt", encoding="utf-8") as out:
        out.write("record_id,sample,symbol,aami,subtype,num,aux\n")
        for record_id, (_, marks) in records.items():
            out.write(f"{record_id},5,+,,0,0,(N\n")
            out.writelines(f"{record_id},{at},{symbol},{AAMI[symbol]},0,0,\n" for at, symbol in marks)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    records = {str(100 + i): heart(90, i) for i in range(5)}
    groups = {"100": "ds1", "101": "ds1", "102": "ds1", "103": "paced", "104": "ds2"}
    write_mitdb(root, records, groups)
    noise = np.random.default_rng(6).normal(0, 100, 40 * RATE_HZ).cumsum().clip(-9000, 9000).astype(np.int16)
    folder = root / "nstdb_noise"
    folder.mkdir()
    np.savez_compressed(
        folder / "records_000.npz",
        record_id=np.array(["em_0", "em_3"]),
        channels=np.ones(2, np.int16),
        samples=np.full(2, len(noise), np.int32),
        start=np.array([0, len(noise), 2 * len(noise)]),
        delta=np.tile(np.diff(noise, prepend=np.int16(0)).astype(np.int16), 2),
    )
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as out:
        lines = csv.writer(out)
        lines.writerow(["record_id", "shard", "row", "fs_hz"])
        lines.writerows([["em_0", "records_000.npz", 0, RATE_HZ], ["em_3", "records_000.npz", 1, RATE_HZ]])
    return root


def reference(
    beats_s: list[float], labels: list[int], left_out: tuple[tuple[float, float], ...] = ()
) -> ClassRecording:
    empty = np.zeros(0, np.int64)
    return ClassRecording(
        "1",
        "mitdb:1",
        "ds1",
        Fraction(360),
        empty.astype(np.int32),
        empty[None],
        np.array(beats_s),
        np.array(labels),
        left_out,
    )


def test_counts_follow_the_stated_convention() -> None:
    recording = reference([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0], [0, 1, 2, 3, 2, 0, 2], ((8.5, 9.5),))
    detected = np.array([1.05, 1.5, 2.0, 3.1, 4.0, 6.0, 9.0, 9.2])
    labels = labels_of(recording, detected)
    assert labels.tolist() == [0, -1, 1, 2, 3, 0, -2, -2]
    counts = count(recording, labels, np.array([0, 2, 2, 2, 2, 3, 2, 2]))
    assert counts.matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert counts.missed.tolist() == [1, 0, 1]  # one not judged, one not detected; the one in flutter counts nowhere
    assert counts.false.tolist() == [0, 0, 1]
    macro, v_sensitivity, s_sensitivity, v_ppv, s_ppv = measures(*pooled([counts]))
    assert v_sensitivity == 0.5
    assert v_ppv == pytest.approx(1 / 3)
    assert s_sensitivity == 0
    assert np.isnan(s_ppv)
    assert macro == pytest.approx((2 / 3 + 0 + 2 / 5) / 3)


def test_measures_of_a_class_that_is_not_there_are_no_numbers() -> None:
    values = measures(np.diag([5, 0, 3]), np.zeros(3, int), np.zeros(3, int))
    assert np.isnan(values[0])
    assert values[1] == 1
    found = figures("mitdb", [Counts("1", np.diag([5, 0, 3]), np.zeros(3, int), np.zeros(3, int))])
    assert [one["id"] for one in found] == ["model.mitdb.v_sensitivity", "model.mitdb.v_ppv"]
    assert figures("mitdb", []) == []


def test_an_interval_is_over_records() -> None:
    good = Counts("1", np.diag([90, 10, 10]), np.zeros(3, int), np.zeros(3, int))
    bad = Counts("2", np.array([[90, 0, 0], [10, 0, 0], [0, 0, 10]]), np.zeros(3, int), np.zeros(3, int))
    low, high = intervals([good] * 5)
    assert low.tolist() == high.tolist() == [1, 1, 1, 1, 1]
    low, high = intervals([good, bad] * 4)
    assert low[2] < 0.5 < high[2]


def test_paced_records_are_never_read(root: Path) -> None:
    assert [one.record_id for one in read_class_recordings(root)] == ["100", "101", "102", "104"]
    assert [one.record_id for one in read_class_recordings(root, group="ds1")] == ["100", "101", "102"]
    recording = next(iter(read_class_recordings(root)))
    assert recording.leads.shape == (2, 90 * MODEL_RATE_HZ)
    assert set(recording.labels.tolist()) == {0, 1, 2}


def test_what_can_not_be_read_is_one_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetUnknown, match="use mitdb"):
        next(iter(read_class_recordings(root, "cinc2017")))
    with pytest.raises(DatasetNotFound, match="--data"):
        next(iter(read_class_recordings(tmp_path)))
    write_mitdb(tmp_path, {"1": heart(20, 1)}, {"1": "ds2"})
    with pytest.raises(DatasetNotFound, match="ds1"):
        cross_validated_figures(tmp_path)
    with gzip.open(tmp_path / "mitdb" / "annotations.csv.gz", "wt", encoding="utf-8") as out:
        out.write("record_id,sample,symbol,aami\n1,12,N,X\n")
    with pytest.raises(DatasetCorrupt):
        list(read_class_recordings(tmp_path))
    assert command.main(["--data", str(tmp_path / "nowhere")]) == DatasetNotFound.exit_status


def plan(seed: int = 1, seconds: int = 120) -> synthesis.Plan:
    ecg = simulate(SimulatedRhythm(duration_s=seconds, sampling_rate_hz=Fraction(128), seed=seed))
    return synthesis.plan(ecg.samples_uv.astype(np.int64), ecg.r_peaks, np.zeros(len(ecg.r_peaks), np.int64))


@pytest.mark.parametrize("kind", list(MADE))
def test_made_up_arrhythmias_are_what_their_labels_say(kind: str) -> None:
    labels, shares = [], []
    for seed in range(6):
        made = plan(seed)
        rng = np.random.default_rng(seed)
        MADE[kind](made, rng)
        samples, beats_s, given = synthesis.assemble(made, rng)
        assert len(beats_s) == len(given) == len(made.peaks)
        assert (np.diff(beats_s) > 0).all()
        assert len(samples) > beats_s[-1] * MODEL_RATE_HZ
        intervals_s = np.diff(beats_s)
        early = given[1:] == 1
        shares += (intervals_s[early] / np.median(intervals_s[given[1:] == 0])).tolist()
        labels += given.tolist()
    found = set(labels)
    assert found == {"supraventricular": {0, 1}, "ventricular": {0, 2}}.get(kind, {0})
    assert not shares or np.median(shares) < 0.92


def test_a_changing_rate_is_kept_within_bounds() -> None:
    made = plan()
    before = np.diff(made.peaks)
    synthesis.changing_rate(made, np.random.default_rng(2))
    ratio = made.intervals / before
    assert 0.5 < ratio.min() < 0.98
    assert 1.02 < ratio.max() < 1.7


@pytest.mark.parametrize(("n", "length"), [(100, 60), (100, 180), (100, 100), (40, 30), (30, 200)])
def test_a_stretched_piece_has_its_length_and_its_ends(n: int, length: int) -> None:
    piece = np.random.default_rng(1).normal(size=n)
    found = synthesis.stretched(piece, length)
    assert len(found) == length
    assert found[0] == piece[0]
    assert found[-1] == piece[-1]


def test_copies_are_the_same_each_time_and_take_from_their_own_record(root: Path) -> None:
    recording = next(iter(read_class_recordings(root)))
    peaks = np.rint(recording.beats_s * MODEL_RATE_HZ).astype(np.int64)
    noise = np.random.default_rng(1).normal(size=5_000)
    for kind in (*MADE, "projection", "noise", "pieces"):
        one, two = (
            list(copies(recording, peaks, recording.labels, kind, noise, np.random.default_rng(7))) for _ in range(2)
        )
        assert len(one) == len(two) >= 1
        assert all((a.samples == b.samples).all() for a, b in zip(one, two, strict=True))
    rngs = [np.random.default_rng(seed) for seed in range(5)]
    pieces = [list(copies(recording, peaks, recording.labels, "pieces", noise, rng)) for rng in rngs]
    assert max(map(len, pieces)) > 1


def described_as(
    record_id: str, labels: list[int], features: np.ndarray | None = None, kind: str = ORIGINAL
) -> Described:
    n = len(labels)
    given = np.zeros((n, 149), np.int8) if features is None else features
    return Described(record_id, kind, np.arange(n) * 1.0, given, np.ones(n, np.bool_), np.array(labels))


def test_a_person_is_in_one_fold() -> None:
    records = []
    for i in range(24):
        one = reference([1.0], [0])
        records.append(replace(one, record_id=str(i), subject=f"mitdb:{i // 2}"))
    described = [described_as(str(i), [1] * (i % 5)) for i in range(24)]
    fold = folds_of(records, described)
    assert all(fold[str(2 * i)] == fold[str(2 * i + 1)] for i in range(12))
    assert len(set(fold.values())) == 11


def test_fusion_beats_and_false_detections_are_no_examples() -> None:
    examples = examples_of([described_as("1", [0, 0, 1, 2, 3, 4, -1, -2])], BeatClassRecipe())
    assert examples.labels.tolist() == [0, 0, 1, 2]
    assert examples.weights.tolist() == pytest.approx([2**-0.5, 2**-0.5, 1, 1])
    with pytest.raises(TrainingFailed, match="all three"):
        examples_of([described_as("1", [0, 1])], BeatClassRecipe())


def test_networks_learn_and_their_integers_agree() -> None:
    rng = np.random.default_rng(0)
    features = rng.integers(-127, 128, (4_000, 149)).astype(np.int8)
    labels = np.where(features[:, 0] > 40, 2, np.where(features[:, 1].astype(int) + features[:, 2] > 60, 1, 0))
    recipe = BeatClassRecipe(hidden=(12, 6), members=2, steps=1_500)
    one = described_as("1", labels.tolist(), features)
    entry = fit([one], recipe, 3)
    logits = logits_of(one, entry)
    assert (logits.argmax(axis=1) == labels).mean() > 0.93
    assert all(np.abs(layer.arrays()[0]).max() < EXACT_FLOAT32 for layer in entry.layers)
    assert len(layers_from(entry.layers, 149, 3)) == 3
    hotter = logits_of(one, fit([one], recipe, 3, temperature=2.0))
    assert np.abs(hotter * 2 - logits).max() < 0.3


def test_networks_side_by_side_give_their_mean() -> None:
    rng = np.random.default_rng(4)
    examples = network.Examples(
        rng.integers(-127, 128, (600, 8)).astype(np.int8), rng.integers(0, 3, 600), np.ones(600)
    )
    parts = [network.fit(examples, network.Fitting((5, 4), 50, 1e-3, 0.1), seed) for seed in range(3)]
    values = examples.features.astype(np.float32) / INPUT_ONE
    mean = np.mean([forward(part, values)[-1] for part in parts], axis=0)
    merged = network.side_by_side(parts)
    np.testing.assert_allclose(forward(merged, values)[-1], mean, atol=1e-5)
    assert len(quantize(merged, examples.features)) == 3


def test_the_shipped_tables_are_scored_through_the_sdk(root: Path) -> None:
    found = {one["id"]: one for one in score_mitdb(root)}
    assert set(found) == {
        f"model.mitdb.{name}" for name in ("macro_f1_nsv", "v_sensitivity", "s_sensitivity", "v_ppv", "s_ppv")
    }
    assert found["model.mitdb.v_sensitivity"]["value"] > 0.8
    assert found["model.mitdb.macro_f1_nsv"]["n"] > 300
    for one in found.values():
        assert one["spread"][0] <= one["value"] <= one["spread"][1]
        assert "EC57" in one["note"]
    assert "PPV" in found["model.mitdb.s_sensitivity"]["note"]
    assert "trained on" in found["model.mitdb.s_sensitivity"]["note"]  # there are a 101 and a 106 in ds1


def test_the_page_gets_its_figures_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    counts = [Counts("101", np.diag([5, 0, 3]), np.array([1, 0, 0]), np.zeros(3, int))]
    validated = Validated(counts, counts, (1.0, 0.0, 0.0), 1.2, 0.01)
    write_figures(page, figures("mitdb", counts), validated)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "\nold\n" not in text
    assert "| 101 | 5 0 0 | - | 0 0 3 | 1 | 0 |" in text
    write_figures(page, figures("mitdb", counts), validated)
    assert page.read_text(encoding="utf-8") == text
    page.write_text("no marks", encoding="utf-8")
    write_figures(page, [], validated)
    assert page.read_text(encoding="utf-8") == "no marks"


@pytest.mark.slow
def test_a_whole_small_run_writes_tables_that_load(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, page = tmp_path / "beat_classes.json", tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    options = ["--members", "1", "--steps", "300", "--hidden", "8", "--copies", "supraventricular", "noise", "pieces"]
    given = ["--data", str(root), "--output", str(output), "--page", str(page), *options]
    assert command.main(given) == 0
    found = {one["id"]: one["value"] for one in json.loads(capsys.readouterr().out)}
    assert found["model.mitdb.v_sensitivity"] > 0.5
    assert read_tables(output.read_bytes()).version >= 1
    assert "out of fold" in page.read_text(encoding="utf-8")
    first = output.read_bytes()
    assert command.main(given) == 0
    assert output.read_bytes() == first


def test_nothing_of_another_record_is_in_what_is_described(root: Path) -> None:
    recordings = list(read_class_recordings(root, group="ds1"))[:2]
    alone = describe_all(recordings[:1], ("supraventricular",), np.zeros(0), 1, lambda _line: None)
    both = describe_all(recordings, ("supraventricular",), np.zeros(0), 1, lambda _line: None)
    assert all((a.features == b.features).all() for a, b in zip(alone, both, strict=False))
    assert {one.record_id for one in both} == {"100", "101"}


def test_tables_without_three_logits_are_refused() -> None:
    features = np.random.default_rng(2).integers(-127, 128, (150, 149)).astype(np.int8)
    one = described_as("1", [0, 1, 2] * 50, features)
    entry = fit([one], BeatClassRecipe(hidden=(4,), members=1, steps=20), 1)
    assert isinstance(entry, BeatClassTablesEntry)
    with pytest.raises(ModelCorrupt, match="fit together"):
        layers_from(entry.layers, 149, 1)
