"""PhysioNet's own folders, written by the field's packages: the microvolts, labels, beats and verdicts of shards."""

from __future__ import annotations

import csv
import gzip
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from einthoven import load_model
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion import dataset_physionet
from einthoven_conversion.dataset_beats import AAMI_CLASSES, read_beats
from einthoven_conversion.datasets import find_folder, open_dataset, read_channels, read_signals
from einthoven_conversion.errors import ConversionError, DatasetCorrupt, DatasetNotFound, DatasetUnknown
from einthoven_conversion.noise import read_noise
from einthoven_conversion.scoring import score_records

wfdb = pytest.importorskip("wfdb", reason="needs wfdb")
MakeDataset = Callable[..., Path]
REAL = Path(__file__).parents[3] / "shared" / "data"
LABELS = "NAO~"


def write_alivecor(folder: Path, signals: dict[str, tuple[str, NDArray[np.int16]]]) -> Path:
    """``training2017`` as PhysioNet has it: MATLAB 4 files, 24 bytes of header, and dates that wfdb itself refuses."""
    folder.mkdir(parents=True)
    for name, (_, samples) in signals.items():
        first = struct.pack("<5i", 30, 1, len(samples), 0, 4) + b"val\0"
        (folder / f"{name}.mat").write_bytes(first + samples.astype("<i2").tobytes())
        header = (
            f"{name} 1 300 {len(samples)} 2014-05-08 05:05:15 \n{name}.mat 16+24 1000/mV 16 0 {samples[0]} 0 0 ECG \n"
        )
        (folder / f"{name}.hea").write_text(header, encoding="ascii")
    (folder / "RECORDS").write_text("".join(f"{name}\n" for name in signals), encoding="ascii")
    reference = "".join(f"{name},{label}\n" for name, (label, _) in signals.items())
    (folder / "REFERENCE-v3.csv").write_text(reference, encoding="ascii")
    (folder / "REFERENCE.csv").write_text(reference.replace(",A", ",N"), encoding="ascii")
    return folder


def write_wfdb(
    folder: Path,
    name: str,
    channels_uv: NDArray[np.int32],
    leads: list[str],
    marks: list[tuple[int, str]] | None = None,
) -> None:
    """A record in format 212 with 200 counts a millivolt around 1024, as mitdb and nstdb are."""
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name,
        fs=360,
        units=["mV"] * len(leads),
        sig_name=leads,
        d_signal=(channels_uv.T // 5 + 1024).astype(np.int64),
        fmt=["212"] * len(leads),
        adc_gain=[200.0] * len(leads),
        baseline=[1024] * len(leads),
        write_dir=str(folder),
    )
    if marks:
        samples, symbols = np.array([at for at, _ in marks]), [symbol for _, symbol in marks]
        wfdb.wrann(name, "atr", samples, symbols, write_dir=str(folder))


@pytest.fixture
def both(make_dataset: MakeDataset, tmp_path: Path) -> tuple[Path, Path]:
    """The same 20 synthetic recordings in both layouts."""
    root = make_dataset(20)
    folder, records = open_dataset(root, "cinc2017")
    signals = {
        records[i].record_id: (LABELS[records[i].label], samples.astype(np.int16))
        for i, samples in sorted(read_signals(folder, records))
    }
    write_alivecor(tmp_path / "physionet" / "training2017", signals)
    return root, tmp_path / "physionet"


def test_both_layouts_give_the_same_records_and_microvolts(both: tuple[Path, Path]) -> None:
    shards, original = both
    (folder, records), (other_folder, others) = open_dataset(shards, "cinc2017"), open_dataset(original, "cinc2017")
    assert other_folder.name == "training2017"
    assert [(r.record_id, r.sampling_rate_hz, r.label) for r in records] == [
        (r.record_id, r.sampling_rate_hz, r.label) for r in others
    ]
    signals, other_signals = dict(read_signals(folder, records)), dict(read_signals(other_folder, others))
    assert sorted(other_signals) == list(range(20))
    for position, samples in signals.items():
        np.testing.assert_array_equal(other_signals[position], samples)
        assert other_signals[position].dtype == np.int32


def test_both_layouts_give_the_same_verdicts(both: tuple[Path, Path]) -> None:
    model = load_model()
    runner = LiteRtRunner(model)
    mine, theirs = (score_records(model, runner, *open_dataset(root, "cinc2017")) for root in both)
    np.testing.assert_array_equal(mine.shares, theirs.shares)
    np.testing.assert_array_equal(mine.reasons, theirs.reasons)
    np.testing.assert_array_equal(mine.labels, theirs.labels)


def test_training_reads_the_same_from_both(both: tuple[Path, Path], tmp_path: Path) -> None:
    from einthoven_conversion.pipeline import make_jobs
    from einthoven_conversion.recipe import Recipe
    from einthoven_conversion.windows import RATE_FACTORS, build_cache

    caches = []
    for root, folds in zip(both, (2, 5), strict=True):
        jobs = make_jobs(root, "cinc2017", tmp_path / "work", Recipe(), everything=True)
        assert len(jobs) == folds + 1
        assert sorted({position for job in jobs[:-1] for position in job.positions}) == list(range(20))
        caches.append(build_cache(jobs[0].folder, jobs[0].records, jobs[0].coefficients, tmp_path / f"cache{folds}"))
    for variant in range(len(RATE_FACTORS)):
        np.testing.assert_array_equal(caches[0].signals[variant], caches[1].signals[variant])


def test_evaluate_takes_the_original_folder(both: tuple[Path, Path]) -> None:
    """The command's figures are those of the shards, number for number."""
    documents = []
    for root in both:
        program = "from einthoven_conversion.cli import main; main()"
        command = [sys.executable, "-c", program, "evaluate", "--data", str(root), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
        assert done.returncode == 0, done.stderr
        documents.append(json.loads(done.stdout)["figures"])
    assert documents[0] == documents[1]


def test_the_folder_itself_will_do_and_so_does_the_sites_tree(both: tuple[Path, Path], tmp_path: Path) -> None:
    folder = both[1] / "training2017"
    assert open_dataset(folder, "cinc2017")[1] == open_dataset(both[1], "cinc2017")[1]
    tree = tmp_path / "files" / "challenge-2017" / "1.0.0"
    (tree / "training" / "A00").mkdir(parents=True)
    for path in folder.glob("S0000*"):
        path.rename(tree / "training" / "A00" / path.name)
    names = sorted(path.stem for path in (tree / "training" / "A00").glob("*.hea"))
    (tree / "training" / "RECORDS").write_text("".join(f"A00/{name}\n" for name in names), encoding="ascii")
    (folder / "REFERENCE-v3.csv").rename(tree / "REFERENCE-v3.csv")
    found, records = open_dataset(tmp_path / "files", "cinc2017")
    assert [record.record_id for record in records] == names
    assert len(list(read_signals(found, records))) == len(names) == 10


def test_the_final_labels_win_over_the_first(both: tuple[Path, Path]) -> None:
    assert any(record.label == 1 for record in open_dataset(both[1], "cinc2017")[1])
    (both[1] / "training2017" / "REFERENCE-v3.csv").unlink()
    assert not any(record.label == 1 for record in open_dataset(both[1], "cinc2017")[1])


def test_folds_are_stratified_and_depend_on_names_alone() -> None:
    labels = {f"A{i:05d}": 0 if i % 10 else 1 for i in range(1000)}
    folds = dataset_physionet.assigned_folds(labels)
    assert folds == dataset_physionet.assigned_folds(dict(reversed(list(labels.items()))))
    for label, count in ((0, 180), (1, 20)):
        own = [folds[name] for name in labels if labels[name] == label]
        assert [own.count(fold) for fold in range(5)] == [count] * 5
    # The rule is a promise: another order would make figures of two runs incomparable.
    assert [folds[f"A{i:05d}"] for i in range(8)] == [0, 1, 2, 0, 0, 3, 4, 4]


def test_records_without_a_list_come_by_name(both: tuple[Path, Path]) -> None:
    (both[1] / "training2017" / "RECORDS").unlink()
    names = [record.record_id for record in open_dataset(both[1], "cinc2017")[1]]
    assert names == sorted(names)
    assert len(names) == 20


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE: list[tuple[str, Callable[[Path], object], type[ConversionError], str]] = [
    ("signal gone", lambda f: (f / "S00003.mat").unlink(), DatasetCorrupt, "S00003"),
    ("signal cut", lambda f: _cut(f / "S00003.mat"), DatasetCorrupt, "S00003"),
    ("header gone", lambda f: (f / "S00003.hea").unlink(), DatasetCorrupt, "S00003"),
    ("header empty", lambda f: (f / "S00003.hea").write_bytes(b""), DatasetCorrupt, "S00003"),
    ("header binary", lambda f: (f / "S00003.hea").write_bytes(bytes(range(256))), DatasetCorrupt, "S00003"),
    ("no unit", lambda f: _replace(f / "S00003.hea", "1000/mV", "1000/mmHg"), DatasetCorrupt, "S00003"),
    ("other rate", lambda f: _replace(f / "S00003.hea", " 300 ", " 30 "), DatasetCorrupt, "S00003"),
    ("huge claim", lambda f: _replace(f / "S00003.hea", " 300 ", " 300 999999999999 "), DatasetCorrupt, "S00003"),
    ("segments", lambda f: (f / "S00003.hea").write_text("S00003/1 1 300 5\nx 5\n"), DatasetCorrupt, "S00003"),
    ("no labels", lambda f: [path.unlink() for path in f.glob("REFERENCE*")], DatasetCorrupt, "REFERENCE-v3.csv"),
    ("label gone", lambda f: _replace(f / "REFERENCE-v3.csv", "S00003,", "S00099,"), DatasetCorrupt, "S00003"),
    ("label unknown", lambda f: _replace(f / "REFERENCE-v3.csv", ",A", ",sinus"), DatasetUnknown, "N, A, O, ~"),
    ("labels binary", lambda f: (f / "REFERENCE-v3.csv").write_bytes(b"\xff\xfe\x00"), DatasetCorrupt, "REFERENCE"),
    ("labels of three", lambda f: _replace(f / "REFERENCE-v3.csv", ",A", ",A,B"), DatasetCorrupt, "REFERENCE"),
    ("a path", lambda f: (f / "RECORDS").write_text("../../etc/passwd\n"), DatasetCorrupt, "RECORDS"),
    ("an absolute path", lambda f: (f / "RECORDS").write_text("/etc/passwd\n"), DatasetCorrupt, "RECORDS"),
    ("twice", lambda f: (f / "RECORDS").write_text("S00003\nS00003\n"), DatasetCorrupt, "twice"),
    ("no records", lambda f: (f / "RECORDS").write_text("\n"), DatasetCorrupt, "RECORDS"),
]


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="ascii")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="ascii")


@pytest.mark.parametrize(("what", "damage", "error", "words"), DAMAGE, ids=[case[0] for case in DAMAGE])
def test_damage_is_one_line_that_names_the_record(
    both: tuple[Path, Path], what: str, damage: Callable[[Path], object], error: type[ConversionError], words: str
) -> None:
    damage(both[1] / "training2017")
    with pytest.raises(error) as caught:
        list(read_signals(*open_dataset(both[1], "cinc2017")))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(both[1]) not in str(caught.value)


def test_any_flip_in_a_header_is_read_or_refused(both: tuple[Path, Path]) -> None:
    rng = np.random.default_rng(3)
    header = both[1] / "training2017" / "S00001.hea"
    content = bytearray(header.read_bytes())
    for _ in range(300):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        header.write_bytes(flipped)
        try:
            list(read_signals(*open_dataset(both[1], "cinc2017")))
        except ConversionError as error:
            assert "S00001" in str(error)  # noqa: PT017


def test_noise_records_come_in_pieces_and_nothing_else_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noise = rng.integers(-200, 200, (2, 7_203)) * 5
    for name in ("bw", "em", "ma", "118e00"):
        write_wfdb(tmp_path / "nstdb", name, noise, ["noise1", "noise2"])
    read = list(read_channels(tmp_path / "nstdb_noise"))
    assert sorted(line["record_id"] for line, _ in read) == sorted(
        f"{n}_{i}" for n in ("bw", "em", "ma") for i in range(5)
    )
    assert sorted({line["kind"] for line, _ in read}) == ["bw", "em", "ma"]
    em = [channels for line, channels in read if line["kind"] == "em"]
    np.testing.assert_array_equal(np.concatenate(em, axis=1), noise)
    assert len(read_noise(tmp_path, load_model().coefficients)) > 3 * 2 * 7_203 * 128 // 360 - 15 * 2 * 300


def test_without_noise_there_is_none(tmp_path: Path) -> None:
    assert len(read_noise(tmp_path, load_model().coefficients)) == 0
    assert find_folder(tmp_path, "nstdb_noise") is None


def write_both_mitdb(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(6)
    shards, original = tmp_path / "shards" / "mitdb", tmp_path / "physionet" / "mitdb"
    shards.mkdir(parents=True)
    rows = []
    for name, symbols in (("101", "NLA[!!]VF"), ("202", 'N/fQ~|x"+ejr')):
        marks = [(100 + 90 * i, symbol) for i, symbol in enumerate(symbols)]
        write_wfdb(original, name, rng.integers(-200, 200, (2, 2_000)) * 5, ["MLII", "V1"], marks)
        rows += [{"record_id": name, "sample": at, "symbol": symbol} for at, symbol in marks]
    with gzip.open(shards / "annotations.csv.gz", "wt", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, ["record_id", "sample", "symbol"])
        writer.writeheader()
        writer.writerows(rows)
    return shards, original


def test_both_layouts_give_the_same_beats(tmp_path: Path) -> None:
    shards, original = write_both_mitdb(tmp_path)
    mine, theirs = read_beats(shards), read_beats(original)
    assert mine.keys() == theirs.keys() == {"101", "202"}
    for name, beats in mine.items():
        np.testing.assert_array_equal(beats.at_samples, theirs[name].at_samples)
        assert (beats.symbols, beats.classes, beats.flutter) == (
            theirs[name].symbols,
            theirs[name].classes,
            theirs[name].flutter,
        )
    assert theirs["101"].classes == ("N", "N", "S", "V", "F")
    assert theirs["101"].flutter == ((370, 640),)
    assert theirs["202"].classes == ("N", "Q", "Q", "Q", "N", "N", "V")


def test_what_is_known_of_a_record_of_mitdb(tmp_path: Path) -> None:
    _, original = write_both_mitdb(tmp_path)
    lines = {line["record_id"]: line for line, _ in read_channels(original)}
    assert lines["101"] | {"group": "ds1", "subject_id": "101", "mlii_channel": "0"} == lines["101"]
    assert lines["202"] | {"group": "ds2", "subject_id": "201", "leads": "MLII;V1"} == lines["202"]
    assert Fraction(lines["101"]["fs_hz"]) == 360


@pytest.mark.parametrize("keep", [1, 3, 7])
def test_damaged_marks_name_the_record(tmp_path: Path, keep: int) -> None:
    _, original = write_both_mitdb(tmp_path)
    marks = original / "202.atr"
    marks.write_bytes(marks.read_bytes()[:keep])
    with pytest.raises(DatasetCorrupt, match="202") as caught:
        read_beats(original)
    assert str(tmp_path) not in str(caught.value)


def test_missing_marks(tmp_path: Path) -> None:
    _, original = write_both_mitdb(tmp_path)
    (original / "101.atr").unlink()
    assert read_beats(original).keys() == {"202"}
    (original / "202.atr").unlink()
    with pytest.raises(DatasetNotFound, match="mitdb"):
        read_beats(original)
    with pytest.raises(DatasetNotFound, match="mitdb"):
        read_beats(tmp_path / "nowhere" / "mitdb")


def test_a_lead_of_mitdb_that_lacks_samples_is_refused(tmp_path: Path) -> None:
    channels = np.zeros((2, 2_000), np.int64)
    channels[0, 700] = (-2_048 - 1_024) * 5  # what format 212 marks as invalid
    write_wfdb(tmp_path / "mitdb", "100", channels, ["MLII", "V5"])
    with pytest.raises(DatasetCorrupt, match="100 lacks samples"):
        list(read_channels(tmp_path / "mitdb"))


@pytest.mark.data
def test_real_shards_and_real_records_agree() -> None:
    """A00001 and 208 lie in the data folder in both layouts, the latter as PhysioNet has them."""
    if not (REAL / "formats" / "wfdb").is_dir():
        pytest.skip("needs ../shared/data")
    folder = REAL / "formats" / "wfdb"
    shard, records = open_dataset(REAL, "cinc2017")
    first = [record for record in records if record.record_id == "A00001"]
    ((_, expected),) = read_signals(shard, first)
    np.testing.assert_array_equal(dataset_physionet._lead(folder, "A00001", None)[1], expected)
    for line, channels in read_channels(REAL / "mitdb"):
        if line["record_id"] == "208":
            for i, lead in enumerate(line["leads"].split(";")):
                np.testing.assert_array_equal(dataset_physionet._lead(folder, "208", lead)[1], channels[i])


@pytest.mark.data
def test_aami_classes_are_those_of_the_real_index() -> None:
    if not (REAL / "mitdb").is_dir():
        pytest.skip("needs ../shared/data")
    with gzip.open(REAL / "mitdb" / "annotations.csv.gz", "rt", encoding="utf-8", newline="") as lines:
        pairs = {(line["symbol"], line["aami"]) for line in csv.DictReader(lines)}
    assert len(pairs) > 15
    assert {symbol: aami for symbol, aami in pairs if aami} == {
        symbol: AAMI_CLASSES[symbol] for symbol, aami in pairs if symbol in AAMI_CLASSES
    }


@pytest.mark.data
def test_twenty_real_recordings_written_as_physionet_does(tmp_path: Path) -> None:
    if not (REAL / "cinc2017").is_dir():
        pytest.skip("needs ../shared/data")
    folder, records = open_dataset(REAL, "cinc2017")
    chosen = [record for record in records if record.shard == records[0].shard][:20]
    signals = dict(read_signals(folder, chosen))
    original = {
        record.record_id: (LABELS[record.label], signals[i].astype(np.int16)) for i, record in enumerate(chosen)
    }
    write_alivecor(tmp_path / "training2017", original)
    model = load_model()
    runner = LiteRtRunner(model)
    mine = score_records(model, runner, folder, chosen)
    theirs = score_records(model, runner, *open_dataset(tmp_path, "cinc2017"))
    for name in ("labels", "rhythms", "shares", "reasons", "in_set", "seconds"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


@pytest.mark.data
def test_real_marks_read_from_atr_are_those_of_the_shards(tmp_path: Path) -> None:
    if not (REAL / "mitdb").is_dir():
        pytest.skip("needs ../shared/data")
    for suffix in ("hea", "dat", "atr"):
        (tmp_path / f"208.{suffix}").write_bytes((REAL / "formats" / "wfdb" / f"208.{suffix}").read_bytes())
    mine, theirs = read_beats(REAL / "mitdb")["208"], read_beats(tmp_path)["208"]
    np.testing.assert_array_equal(mine.at_samples, theirs.at_samples)
    assert mine.classes == theirs.classes
    assert len(mine.classes) > 2_900
