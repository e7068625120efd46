"""Training of the beat detector's tables: matching by EC57, labels, noise, quantization, and a whole small run."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from einthoven.beat_tables import EXACT_FLOAT32, layers_from, read_tables
from einthoven.resampling import MODEL_RATE_HZ
from einthoven_conversion.beats import __main__ as command
from einthoven_conversion.beats import augment, network
from einthoven_conversion.beats.examples import BEAT, NEITHER, OTHER, scan
from einthoven_conversion.beats.matching import Comparison, compare, f1, match
from einthoven_conversion.beats.peer_marks import CACHE_FILE, agreed
from einthoven_conversion.beats.recordings import Recording, read_references, unmarked
from einthoven_conversion.beats.training import FOLDS, BeatRecipe, build, design_band_pass, folds_of, logits_of
from einthoven_conversion.errors import DatasetNotFound

RATE_HZ = 250
TAPS = np.array(design_band_pass(), np.float64)


def recording(seconds: int = 60, *, subject: str = "mitdb:1", fold: int | None = None, seed: int = 0) -> Recording:
    """Pulses 0.8 s apart with slow T waves between them."""
    rng = np.random.default_rng(seed)
    t = np.arange(seconds * MODEL_RATE_HZ) / MODEL_RATE_HZ
    beats = np.arange(0.5, seconds - 0.4, 0.8)
    samples = rng.normal(0, 5, len(t))
    for beat in beats:
        samples += 1000 * np.exp(-(((t - beat) / 0.015) ** 2)) + 200 * np.exp(-(((t - beat - 0.25) / 0.05) ** 2))
    return Recording(
        dataset="mitdb",
        record_id=subject,
        subject=subject,
        channel=0,
        fold=fold,
        samples=np.rint(samples - samples[0]).astype(np.int64),
        beats_s=beats,
        ectopic=np.arange(len(beats)) == 7,
        left_out=(),
    )


def test_a_beat_matches_within_150_ms_once_and_in_order() -> None:
    reference = np.array([1.0, 2.0, 3.0])
    assert match(reference, np.array([1.149, 1.9, 2.05, 3.151])).tolist() == [[0, 0], [1, 2]]
    assert match(reference, np.zeros(0)).shape == (0, 2)
    assert match(np.array([1.0, 1.2]), np.array([1.1])).tolist() in ([[0, 0]], [[1, 0]])


def test_flutter_counts_neither_for_nor_against() -> None:
    reference, detected = np.array([1.0, 5.0, 9.0]), np.array([1.01, 4.0, 4.5, 8.5, 9.0])
    comparison = compare(reference, detected, [(3.0, 6.0)])
    assert comparison.true_positives == 2
    assert comparison.missed_s.tolist() == []
    assert comparison.false_s.tolist() == [8.5]
    assert comparison.errors_s == pytest.approx([0.01, 0.0])


def test_f1_is_gross_over_recordings() -> None:
    one = Comparison(8, np.zeros(1), np.zeros(1), np.zeros(8))
    two = Comparison(1, np.zeros(0), np.zeros(0), np.zeros(1))
    assert f1([one, two]) == pytest.approx(18 / 20)
    assert f1([]) == 0


def test_labels_a_beat_by_its_highest_candidate_and_leaves_out_flutter() -> None:
    plain = recording()
    found = scan(plain, TAPS)
    beats = found.positions[found.labels == BEAT] / MODEL_RATE_HZ
    assert len(beats) == len(plain.beats_s)
    assert np.abs(beats - plain.beats_s).max() < 0.03
    assert (found.labels == OTHER).any()
    assert found.ectopic.sum() == 1
    assert found.ectopic[found.labels == BEAT].argmax() == 7


def test_marks_at_the_onset_of_the_complex_label_the_same_candidates() -> None:
    plain = recording()
    early = Recording(**{**_fields(plain), "beats_s": plain.beats_s - 0.09})
    np.testing.assert_array_equal(scan(early, TAPS).labels == BEAT, scan(plain, TAPS).labels == BEAT)


def test_what_is_left_out_is_labelled_neither() -> None:
    cut = Recording(**{**_fields(recording()), "left_out": ((10.0, 20.0),)})
    found = scan(cut, TAPS)
    inside = (found.positions > 10 * MODEL_RATE_HZ) & (found.positions < 20 * MODEL_RATE_HZ)
    assert inside.any()
    assert (found.labels[inside] == NEITHER).all()


def _fields(one: Recording) -> dict[str, object]:
    return {name: getattr(one, name) for name in Recording.__slots__}


@pytest.mark.parametrize("snr_db", [12, 0])
def test_noise_is_added_at_the_ratio_that_nst_defines(snr_db: float) -> None:
    plain = recording()
    noise = np.random.default_rng(1).normal(0, 37, 7 * MODEL_RATE_HZ)
    added = augment.with_noise(plain, noise, snr_db).samples - plain.samples
    power = augment.qrs_power(plain.samples.astype(float), plain.beats_s)
    assert 10 * np.log10(power / augment.noise_power(added.astype(float))) == pytest.approx(snr_db, abs=0.3)


def test_a_faster_copy_keeps_its_marks_on_its_beats() -> None:
    quick = augment.faster(recording(), np.random.default_rng(3))
    found = scan(quick, TAPS)
    beats = found.positions[found.labels == BEAT] / MODEL_RATE_HZ
    assert np.abs(beats[:, None] - quick.beats_s[None, :]).min(axis=1).max() < 0.03
    assert len(quick.samples) != len(recording().samples)


def test_pieces_keep_their_marks() -> None:
    for piece in augment.pieces(recording(120), np.random.default_rng(4)):
        assert piece.samples[0] == 0
        at = np.rint(piece.beats_s * MODEL_RATE_HZ).astype(int)
        at = at[(at > 20) & (at < len(piece.samples) - 20)]
        height = np.abs(piece.samples - np.median(piece.samples))
        assert all(height[i - 3 : i + 4].max() > 0.8 * np.abs(height).max() for i in at)


def test_peers_that_disagree_too_much_are_not_believed() -> None:
    beats = np.arange(1.0, 20.0)
    assert agreed(beats, beats[:3]) is None
    assert agreed(beats, beats + 0.1) is None
    found = agreed(beats, np.sort(np.append(beats + 0.02, 7.5)))
    assert found is not None
    np.testing.assert_allclose(found[0], beats + 0.01)
    assert any(start < 7.5 < stop for start, stop in found[1])


def test_all_but_the_marked_stretches_is_left_out() -> None:
    spans = unmarked([10.0, 11.0, 30.0, 31.0], 40.0)
    assert [(round(a, 1), round(b, 1)) for a, b in spans] == [(0.0, 9.7), (11.3, 29.7), (31.3, 40.0)]
    assert unmarked([], 5.0) == [(0.0, 5.0)]


def test_the_band_pass_is_symmetric_and_passes_10_hz_alone() -> None:
    gain = np.abs(np.fft.rfft(TAPS, 1280)) / 4096
    hz = np.arange(641) / 10
    assert (TAPS[::-1] == TAPS).all()
    assert gain.max() == pytest.approx(1, abs=0.02)
    assert gain[np.abs(hz - 12) < 3].min() > 0.8
    assert gain[hz > 35].max() < 0.02


def test_no_subject_is_in_two_folds() -> None:
    scans = [scan(recording(10, subject=f"{name}:{i}"), TAPS) for name in ("mitdb", "qtdb") for i in range(12)] * 2
    folds = folds_of(scans)
    by_subject = {one.recording.subject: {f for s, f in zip(scans, folds, strict=True) if s is one} for one in scans}
    assert all(len(found) == 1 for found in by_subject.values())
    assert set(folds) == set(range(FOLDS))
    assert folds_of([scan(recording(10, fold=3), TAPS)]) == [3]


def test_integers_decide_as_floats_do() -> None:
    rng = np.random.default_rng(5)
    features = rng.integers(-127, 128, (20_000, 12)).astype(np.int8)
    labels = (features[:, 0].astype(int) + features[:, 1] > np.abs(features[:, 2].astype(int))).astype(np.float32)
    layers = network.fit(network.Examples(features, labels, np.ones(len(labels), np.float32)), (16, 8), 200, seed=0)
    entries = network.quantize(layers, features[::10])
    exact = logits_of(features, layers_from(entries, 12)) / 256
    float_logits = network.forward(layers, features.astype(np.float32) / network.INPUT_ONE)[-1][:, 0]
    assert np.abs(exact - float_logits).max() < 0.25
    assert ((exact > 0) == (labels > 0)).mean() > 0.95
    for entry in entries:
        assert np.abs(np.array(entry.weights)).max() < EXACT_FLOAT32


def write_set(root: Path, name: str, signals: dict[str, np.ndarray], columns: dict[str, str], marks: list[str]) -> None:
    """A data set of one channel at 250 Hz in the layout of the data folder."""
    folder = root / name
    folder.mkdir(parents=True)
    flat = [np.diff(signal, prepend=np.int16(0)).astype(np.int16) for signal in signals.values()]
    lengths = [len(signal) for signal in flat]
    np.savez_compressed(
        folder / "records_000.npz",
        record_id=np.array(list(signals)),
        channels=np.ones(len(flat), np.int16),
        samples=np.array(lengths, np.int32),
        start=np.concatenate([[0], np.cumsum(lengths)]),
        delta=np.concatenate(flat),
    )
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as out:
        lines = csv.writer(out)
        lines.writerow(["record_id", "shard", "row", "subject_id", "fs_hz", *columns])
        for row, record_id in enumerate(signals):
            lines.writerow([record_id, "records_000.npz", row, record_id, RATE_HZ, *columns.values()])
    for file_name in marks:
        with gzip.open(folder / file_name, "wt", encoding="utf-8") as out:
            out.write("record_id,annotator,sample,symbol,aami,subtype,num,aux\n")
            for record_id in signals if "waves" not in file_name else ():
                for at in np.arange(0.5, lengths[0] / RATE_HZ - 0.4, 0.8):
                    out.write(f"{record_id},atr,{round(at * RATE_HZ)},N,N,0,0,\n")


def heart(seconds: int, seed: int) -> np.ndarray:
    one = recording(seconds, seed=seed)
    n = seconds * RATE_HZ
    return np.interp(np.arange(n) / RATE_HZ, np.arange(len(one.samples)) / MODEL_RATE_HZ, one.samples).astype(np.int16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data sets that training reads, each tiny."""
    root = tmp_path_factory.mktemp("data")
    for name, mark_files in {
        "mitdb": ["annotations.csv.gz"],
        "qtdb": ["beats.csv.gz", "waves.csv.gz"],
        "cpsc2021_sample": ["annotations.csv.gz"],
        "cudb_sample": ["annotations.csv.gz"],
    }.items():
        write_set(root, name, {f"{name}{i}": heart(90, i) for i in range(5)}, {}, mark_files)
    signals = {f"A{i}": heart(30, i) for i in range(5)}
    write_set(root, "cinc2017", signals, {"label": "N", "fold": "1"}, [])
    rng = np.random.default_rng(6)
    noises = {f"em_{i}": rng.normal(0, 100, 40 * RATE_HZ).cumsum().clip(-9000, 9000).astype(np.int16) for i in range(5)}
    write_set(root, "nstdb_noise", noises | {"clip_ma": noises["em_0"][: 10 * RATE_HZ]}, {}, [])
    return root


@pytest.fixture(scope="module")
def work(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Peers' marks as if both had looked."""
    work = tmp_path_factory.mktemp("work")
    at = np.rint(np.arange(0.5, 29.6, 0.8) * RATE_HZ).astype(np.int64)
    marks = {f"cinc2017/A{i}/{peer}": at for i in range(5) for peer in ("xqrs", "neurokit")}
    np.savez_compressed(work / CACHE_FILE, **marks)
    return work


def test_reads_references_of_every_layout(root: Path) -> None:
    for name in ("mitdb", "qtdb"):
        found = list(read_references(root, name))
        assert [len(one.beats_s) for one in found] == [len(np.arange(0.5, 89.6, 0.8))] * 5
        assert {one.subject for one in found} == {f"{name}:{name}{i}" for i in range(5)}
    with pytest.raises(DatasetNotFound, match="--data"):
        next(iter(read_references(root.parent / "nowhere", "mitdb")), None)


@pytest.mark.slow
def test_a_whole_small_run_writes_tables_that_load(
    root: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "beats.json"
    options = [
        "--threshold",
        "0.0",
        "--noisy-copies",
        "1",
        "--first-hidden",
        "8",
        "4",
        "--second-hidden",
        "8",
        "4",
        "--first-epochs",
        "40",
        "--second-epochs",
        "40",
    ]
    status = command.main(["--data", str(root), "--work", str(work), "--output", str(output), *options])
    assert status == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["mitdb.clean"]["f1"] > 0.9
    assert figures["mitdb.test0"]["records"] == 5
    assert read_tables(output.read_bytes()).threshold == 0


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_examples(root: Path, work: Path) -> None:
    recipe = BeatRecipe(noisy_copies=1)
    one, two = (build(root, work, recipe, lambda _line: None) for _ in range(2))
    assert all((a.features == b.features).all() for a, b in zip(one, two, strict=True))


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--data", str(tmp_path), "--work", str(tmp_path), "--output", str(tmp_path / "x")]) > 0
    assert capsys.readouterr().err.count("\n") == 1
