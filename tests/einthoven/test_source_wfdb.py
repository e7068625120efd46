"""WFDB records: what is read, and what is refused and how."""

from __future__ import annotations

import shutil
import time
import tracemalloc
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.einthoven.binary_records import WFDB_BITS, WFDB_WRITERS, wfdb_record

from einthoven.errors import (
    EinthovenError,
    InputError,
    RecordFormatError,
    RecordNotFound,
    SamplingRateError,
    UnknownUnit,
)
from einthoven.ports import MISSING_UV
from einthoven.source_checks import lead_name
from einthoven.source_wfdb import WfdbSource
from einthoven.wfdb_header import parse_header

FORMATS = Path(__file__).parents[3] / "shared" / "data" / "formats" / "wfdb"
SAMPLES = np.arange(-300, 300, dtype="<i2")


def record(folder: Path, *, first="x 1 300 600", signal="x.dat 16 1000/mV 16 0 0 0 0 ECG", samples=SAMPLES) -> Path:
    (folder / "x.hea").write_text(f"{first}\n{signal}\n", encoding="latin-1")
    (folder / "x.dat").write_bytes(np.asarray(samples, dtype="<i2").tobytes())
    return folder / "x.hea"


def read(path: Path, **options) -> np.ndarray:
    return np.concatenate(list(WfdbSource.open(path, **options).chunks()))


def refusal(attempt) -> str:
    """The message that something is refused with, "" if it is not; anything but our own errors is a failure."""
    try:
        attempt()
    except EinthovenError as error:
        return str(error)
    return ""


def test_a_date_that_wfdb_refuses_is_no_obstacle(tmp_path):
    assert np.array_equal(read(record(tmp_path, first="x 1 300 600 2014-05-08 05:05:15")), SAMPLES)


@pytest.mark.parametrize(
    ("scale", "factor"),
    [
        ("1000/mV", 1),
        ("200/mV", 5),
        ("200", 5),
        ("1/uV", 1),
        ("1/µV", 1),
        ("1000000/V", 1),
        ("1e-3/nV", 1),
        ("100", 10),
    ],
)
def test_units_become_microvolts(tmp_path, scale, factor):
    path = record(tmp_path, signal=f"x.dat 16 {scale} 16 0 0 0 0 ECG")
    path.write_text(path.read_text("latin-1"), encoding="utf-8")
    if "µ" in scale:  # not ASCII: the field's tools write u
        with pytest.raises(UnknownUnit):
            read(path)
    else:
        assert np.array_equal(read(path), SAMPLES * factor)


def test_baseline_and_adc_zero_and_invalid_samples(tmp_path):
    with_invalid = np.array([100, -32768, 102], dtype="<i2")
    declared = record(tmp_path, first="x 1 300 3", signal="x.dat 16 1000(100)/mV 16 7 0 0 0 I", samples=with_invalid)
    assert read(declared).tolist() == [0, MISSING_UV, 2]
    implied = record(tmp_path, first="x 1 300 3", signal="x.dat 16 1000/mV 16 99 0 0 0 I", samples=with_invalid)
    assert read(implied).tolist() == [1, MISSING_UV, 3]


def test_a_lead_among_interleaved_signals_of_different_rates(tmp_path):
    frames = np.array([[n, 1000 + 2 * n, 1001 + 2 * n] for n in range(200)], dtype="<i2")
    path = record(
        tmp_path,
        first="x 2 150 200",
        signal="x.dat 16 1000/mmHg 16 0 0 0 0 ABP\nx.dat 16x2 1000/mV 16 0 0 0 0 II",
        samples=frames,
    )
    source = WfdbSource.open(path)
    assert source.sampling_rate_hz == 300
    assert np.concatenate(list(source.chunks())).tolist() == list(range(1000, 1400))
    with pytest.raises(UnknownUnit):
        read(path, lead="ABP")


def test_leads_are_chosen_by_name_in_any_case_and_never_by_guess(tmp_path):
    frames = np.stack([np.zeros(100), np.ones(100), np.full(100, 2)], axis=1).astype("<i2")
    three = "x.dat 16 1000 16 0 0 0 0 {}\nx.dat 16 1000 16 0 0 0 0 {}\nx.dat 16 1000 16 0 0 0 0 {}"
    path = record(tmp_path, first="x 3 300 100", signal=three.format("V5", "ecg ii", "RESP"), samples=frames)
    assert set(read(path)) == {1}
    assert set(read(path, lead="v5")) == {0}
    assert set(read(path, lead="RESP")) == {2}  # asked for by its own name
    with pytest.raises(InputError, match="V5, II"):
        WfdbSource.open(path, lead="aVR")
    path = record(tmp_path, first="x 3 300 100", signal=three.format("RESP", "PLETH", "ABP"), samples=frames)
    with pytest.raises(InputError, match="none of the 3 signals"):
        WfdbSource.open(path)


def test_the_name_shows_a_lead_but_no_free_text(tmp_path):
    assert WfdbSource.open(record(tmp_path)).name == "WFDB record, lead ECG"
    private = record(tmp_path, signal="x.dat 16 1000 16 0 0 0 0 Jane Doe")
    assert WfdbSource.open(private).name == "WFDB record"


def test_gaps_between_segments_and_segments_without_the_lead_are_missing(tmp_path):
    for name, lead in (("a", "II"), ("b", "V1"), ("c", "II")):
        (tmp_path / f"{name}.dat").write_bytes(np.full(100, ord(name), dtype="<i2").tobytes())
        (tmp_path / f"{name}.hea").write_text(f"{name} 1 200 100\n{name}.dat 16 1000 16 0 0 0 0 {lead}\n")
    (tmp_path / "x.hea").write_text("x/5 1 200 450\nlayout 0\na 100\n~ 150\nb 100\nc 100\n")
    samples = read(tmp_path / "x.hea")
    assert samples.tolist() == [97] * 100 + [MISSING_UV] * 250 + [99] * 100
    (tmp_path / "c.hea").write_text("c 1 250 100\nc.dat 16 1000 16 0 0 0 0 II\n")
    with pytest.raises(RecordFormatError, match="segment"):
        read(tmp_path / "x.hea")
    (tmp_path / "x.hea").write_text("x/1 1 200 100\n~ 100\n")
    with pytest.raises(InputError, match="no segment"):
        read(tmp_path / "x.hea")


def oracle(path: Path) -> list[np.ndarray]:
    """What wfdb reads, each signal in microvolts, NaN where invalid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = wfdb.rdrecord(str(path.with_suffix("")), smooth_frames=False, m2s=True)
    return [1000 * np.asarray(signal) for signal in record.e_p_signal]


def agrees(path: Path, lead: str, expected_uv: np.ndarray) -> bool:
    samples, missing = read(path, lead=lead), np.isnan(expected_uv)
    if not np.array_equal(samples == MISSING_UV, missing):
        return False
    return bool(np.abs(samples[~missing] - expected_uv[~missing]).max(initial=0) <= 0.5 + 1e-6)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 5, 600])
@pytest.mark.parametrize("form", WFDB_WRITERS)
def test_every_storage_format_is_read_as_wfdb_reads_it(tmp_path, form, n_frames):
    rng = np.random.default_rng([n_frames, int(form)])
    reach = min(2 ** (WFDB_BITS[form] - 1), 10**6)
    # Two samples a frame of one signal and one of the other: units of two and three samples span frames.
    frames = rng.integers(-reach, reach, (n_frames, 3))
    frames.flat[rng.integers(0, frames.size, 1 + frames.size // 50)] = -(2 ** (WFDB_BITS[form] - 1))
    stored = frames
    if form == "8":
        frames = np.concatenate([np.cumsum(frames[:, :2].ravel()).reshape(-1, 2), np.cumsum(frames[:, 2:], axis=0)], 1)
    sums = frames[:, :2].sum() % 2**16, frames[:, 2].sum() % 2**16
    first = (10, -7) if form == "8" else (0, 0)
    sums = ((sums[0] + 10 * 2 * n_frames) % 2**16, (sums[1] - 7 * n_frames) % 2**16) if form == "8" else sums
    lines = [
        f"x.dat {form}x2+5 2000(3)/mV 16 0 {first[0]} {sums[0]} 0 II",
        f"x.dat {form}+5 20.5/uV 16 0 {first[1]} {sums[1]} 0 V1",
    ]
    blob = b"start" + WFDB_WRITERS[form](stored.ravel().tolist())
    path = wfdb_record(tmp_path, lines, {"x.dat": blob}, first=f"x 2 250/0.5(12) {n_frames}")
    both, one = oracle(path)
    assert agrees(path, "II", both)
    assert agrees(path, "V1", one / 1000)  # wfdb gives the unit of the header
    assert WfdbSource.open(path, lead="II").sampling_rate_hz == 500
    if form != "8":  # all three bytes of a last, incomplete unit may be cut off, one that holds a sample may not
        path.with_suffix(".dat").write_bytes(blob[:-3])
        with pytest.raises(RecordFormatError):
            read(path)


@pytest.mark.parametrize("form", ["16", "212", "310", "8"])
def test_long_records_are_decoded_across_blocks(tmp_path, form):
    rng = np.random.default_rng(27)
    stored = rng.integers(-100, 100, 7 * 30_000)
    lines = [f"x.dat {form} 1000 16 0 0 0 0 {name}" for name in ("II", "V1", "V2", "V3", "V4", "V5", "V6")]
    path = wfdb_record(
        tmp_path, lines, {"x.dat": WFDB_WRITERS[form](stored.tolist())}, first=f"x 7 250 {stored.size // 7}"
    )
    signals = stored.reshape(-1, 7)
    signals = np.cumsum(signals, axis=0) if form == "8" else signals
    file = WfdbSource.open(path, lead="V5")._stretches[0].file
    for first, last in ((0, 30_000), (1, 5), (29_999, 30_000), (12_345, 23_456)):
        assert np.array_equal(np.concatenate(list(file.counts(first, last))), signals[first:last, 5])


@pytest.mark.parametrize(("form", "bits"), [("508", 8), ("516", 16), ("524", 24), ("524", 16)])
@pytest.mark.parametrize("per_frame", [1, 4])
def test_flac_records(tmp_path, form, bits, per_frame):
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(bits)
    reach = 2 ** (bits - 1)
    samples = rng.integers(-reach, reach, (100_000 if per_frame == 1 else 4000, 2))
    subtype = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}[bits]
    soundfile.write(tmp_path / "x.dat", (samples << (32 - bits)).astype(np.int32), 250, subtype=subtype, format="FLAC")
    lines = [
        f"x.dat {form}x{per_frame} 100 16 0 0 {samples[:, n].sum() % 2**16} 0 {lead}"
        for n, lead in enumerate(("II", "V1"))
    ]
    path = wfdb_record(tmp_path, lines, {}, first=f"x 2 250 {len(samples) // per_frame}")
    assert WfdbSource.open(path).sampling_rate_hz == 250 * per_frame
    for lead, expected in zip(("II", "V1"), oracle(path), strict=True):
        expected[np.abs(expected) > 1_000_000] = np.nan
        assert agrees(path, lead, expected)
    content = (tmp_path / "x.dat").read_bytes()
    (tmp_path / "x.dat").write_bytes(content[: len(content) // 2])
    with pytest.raises(RecordFormatError):
        read(path)
    (tmp_path / "x.dat").write_bytes(b"RIFF" + content[4:])
    with pytest.raises(RecordFormatError):
        read(path)


def test_a_flac_file_that_is_not_the_headers_is_refused(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "x.dat", np.zeros((600, 1), dtype=np.int16), 250, subtype="PCM_16", format="FLAC")
    for line in ("x.dat 508 1000", "x.dat 516+3 1000", "x.dat 516 1000\nx.dat 516 1000", "x.dat 516x7 1000"):
        path = wfdb_record(tmp_path, [line], {}, first=f"x {line.count('x.dat')} 250 600")
        with pytest.raises((RecordFormatError, InputError)):
            read(path)
    path = wfdb_record(tmp_path, ["x.dat 516 1000"], {}, first="x 1 250 600")
    assert read(path).tolist() == [0] * 600


@pytest.mark.parametrize("form", ["16", "212", "310"])
def test_skew_is_undone(tmp_path, form):
    frames = np.stack([np.arange(1, 101), np.arange(201, 301)], axis=1)
    # A checksum that no order of the samples has: with skew it is not compared.
    lines = [f"x.dat {form}:7 1000 16 0 8 1 0 II", f"x.dat {form} 1000 16 0 0 0 0 V1"]
    path = wfdb_record(tmp_path, lines, {"x.dat": WFDB_WRITERS[form](frames.ravel().tolist())}, first="x 2 250 95")
    # 93 samples are there; wfdb looks no further than the header's length and gives 88 of them.
    assert read(path).tolist() == [*range(8, 101), MISSING_UV, MISSING_UV]
    assert read(path, lead="V1").tolist() == list(range(201, 296))
    lines[0] = lines[0].replace(":7", ":200")
    path = wfdb_record(tmp_path, lines, {}, first="x 2 250 95")
    assert set(read(path)) == {MISSING_UV}


def test_a_checksum_or_else_a_first_sample_has_to_be_right(tmp_path):
    right = int(SAMPLES.sum()) % 2**16
    for stated in (right, right - 2**16):
        assert np.array_equal(read(record(tmp_path, signal=f"x.dat 16 1000/mV 16 0 -300 {stated} 0 ECG")), SAMPLES)
        with pytest.raises(RecordFormatError, match="written for"):
            WfdbSource.open(record(tmp_path, signal=f"x.dat 16 1000/mV 16 0 -300 {stated + 1} 0 ECG"))
    assert np.array_equal(read(record(tmp_path, signal="x.dat 16 1000/mV 16 0 -300 0 0 ECG")), SAMPLES)
    with pytest.raises(RecordFormatError, match="written for"):
        WfdbSource.open(record(tmp_path, signal="x.dat 16 1000/mV 16 0 -299 0 0 ECG"))
    changed = SAMPLES.copy()
    changed[300] += 1
    with pytest.raises(RecordFormatError, match="written for"):
        WfdbSource.open(record(tmp_path, signal=f"x.dat 16 1000/mV 16 0 -300 {right} 0 ECG", samples=changed))


def test_a_variable_layout_names_the_lead_of_the_whole_record(tmp_path):
    for name, leads in (("a", ("V1", "RESP")), ("b", ("II", "V1"))):
        frames = np.stack([np.full(100, ord(name)), np.full(100, 1)], axis=1).astype("<i2")
        lines = [f"{name}.dat 16 1000 16 0 0 0 0 {lead}" for lead in leads]
        (tmp_path / f"{name}.dat").write_bytes(frames.tobytes())
        (tmp_path / f"{name}.hea").write_text("\n".join([f"{name} 2 200 100", *lines]) + "\n")
    layout = [f"~ 0 1000 16 0 0 0 0 {lead}" for lead in ("V1", "RESP", "II")]
    (tmp_path / "x_layout.hea").write_text("\n".join(["x_layout 3 200 0", *layout]) + "\n")
    (tmp_path / "x.hea").write_text("x/4 3 200 250\nx_layout 0\na 100\n~ 50\nb 100\n")
    assert read(tmp_path / "x.hea").tolist() == [MISSING_UV] * 150 + [98] * 100
    assert read(tmp_path / "x.hea", lead="V1").tolist() == [97] * 100 + [MISSING_UV] * 50 + [1] * 100
    # A layout that is not there, or names no ECG: then the first segment decides.
    (tmp_path / "x_layout.hea").write_text("x_layout 2 200 0\n~ 0 1 16 0 0 0 0 ABP\n~ 0 1 16 0 0 0 0 RESP\n")
    assert read(tmp_path / "x.hea").tolist() == [97] * 100 + [MISSING_UV] * 50 + [1] * 100
    (tmp_path / "x.hea").write_text("x/4 3 200 251\nx_layout 0\na 100\n~ 50\nb 100\n")
    with pytest.raises(RecordFormatError, match="as long as"):
        read(tmp_path / "x.hea")


@pytest.mark.data
def test_wfdb_reads_every_lead_of_the_sample_records_alike(tmp_path):
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    n_leads = 0
    for header in sorted(FORMATS.glob("*.hea")):
        for file in FORMATS.iterdir():
            shutil.copyfile(file, tmp_path / file.name)
        text = header.read_text().replace("2014-05-08 05:05:15", "")  # which wfdb refuses
        (tmp_path / header.name).write_text(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = wfdb.rdrecord(str(tmp_path / header.stem), smooth_frames=False, m2s=True).sig_name
        for name, expected_uv in zip(names, oracle(tmp_path / header.name), strict=True):
            if lead_name(name):
                assert agrees(header, name, expected_uv), (header.name, name)
                n_leads += 1
    assert n_leads == 47


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "record", "leads"), [("mitdb", "208", ("MLII", "V1")), ("cinc2017", "A00001", ("ECG",))]
)
def test_the_sample_records_are_the_shards_own(dataset, record, leads):
    if not FORMATS.is_dir():
        pytest.skip("needs ../shared/data/formats")
    for shard in sorted((FORMATS.parents[1] / dataset).glob("records_*.npz")):
        with np.load(shard) as held:
            ids = [str(name) for name in held["record_id"]]
            if record in ids:
                at = ids.index(record)
                delta = held["delta"][held["start"][at] : held["start"][at + 1]].reshape(held["channels"][at], -1)
    for n, lead in enumerate(leads):
        assert np.array_equal(read(FORMATS / f"{record}.hea", lead=lead), np.cumsum(delta[n], dtype=np.int16))


def test_a_missing_record_and_a_missing_signal_file(tmp_path):
    with pytest.raises(RecordNotFound):
        WfdbSource.open(tmp_path / "none.hea")
    path = record(tmp_path)
    (tmp_path / "x.dat").unlink()
    with pytest.raises(RecordNotFound, match="beside"):
        WfdbSource.open(path)


@pytest.mark.parametrize(
    ("first", "signal", "error"),
    [
        ("x 1 0 600", None, SamplingRateError),
        ("x 1 50 600", None, SamplingRateError),
        ("x 1 1001 600", None, SamplingRateError),
        ("x 1 -300 600", None, SamplingRateError),
        ("x 1 1e99 600", None, SamplingRateError),
        ("x 1 nan 600", None, RecordFormatError),
        ("x 1 300 1000000000000", None, RecordFormatError),
        ("x 1 300 601", None, RecordFormatError),
        ("x 1 300 -1", None, RecordFormatError),
        ("x 1000000 300 600", None, RecordFormatError),
        ("x 0 300 600", None, RecordFormatError),
        ("x 2 300 600", None, RecordFormatError),
        ("x/9999999 1 300 600", None, RecordFormatError),
        ("hello", None, RecordFormatError),
        ("", "", RecordFormatError),
        (None, "x.dat 16 -1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 1e-9/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 1e999999999/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 0/mV 16 0 0 0 0 ECG", UnknownUnit),
        (None, "x.dat 16", UnknownUnit),
        (None, "x.dat 16 1000/mmHg 16 0 0 0 0 ECG", UnknownUnit),
        (None, "x.dat 16 1000/NU 16 0 0 0 0 ECG", UnknownUnit),
        (None, "x.dat 9 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 1000/mV 16 0 0 1 0 ECG", RecordFormatError),
        (None, "x.dat 16 1000/mV 16 0 1 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 1000/mV 16 0 x 0 0 ECG", RecordFormatError),
        (None, "x.dat 16 1000/mV 16 0 0 1e9 0 ECG", RecordFormatError),
        (None, "x.dat 516 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        ("x 1 360/(1) 600", None, RecordFormatError),
        ("x 1 360/0.5(x) 600", None, RecordFormatError),
        ("x 1 360/a 600", None, RecordFormatError),
        (None, "x.dat 16x999999999 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16:999999999 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "x.dat 16+99999999999 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "../x.dat 16 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "/etc/passwd 16 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, ".. 16 1000/mV 16 0 0 0 0 ECG", RecordFormatError),
        (None, "~ 16 1000/mV 16 0 0 0 0 ECG", RecordNotFound),
    ],
)
def test_absurd_headers_are_refused_in_bounded_memory(tmp_path, first, signal, error):
    options = {key: value for key, value in (("first", first), ("signal", signal)) if value is not None}
    path = record(tmp_path, **options)
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error


def test_signals_of_one_file_in_two_formats_are_refused(tmp_path):
    two = "x.dat 16 1000 16 0 0 0 0 II\nx.dat 212 1000 12 0 0 0 0 V1"
    with pytest.raises(RecordFormatError, match="format"):
        read(record(tmp_path, first="x 2 300 100", signal=two))


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    source = WfdbSource.open(record(tmp_path))
    (tmp_path / "x.dat").write_bytes(SAMPLES[:10].tobytes())
    with pytest.raises(RecordFormatError):
        list(source.chunks())
    (tmp_path / "x.dat").unlink()
    with pytest.raises(RecordFormatError):
        list(source.chunks())


def test_a_directory_or_an_empty_file_is_refused(tmp_path):
    (tmp_path / "d.hea").mkdir()
    with pytest.raises(RecordFormatError, match="not a file"):
        WfdbSource.open(tmp_path / "d.hea")
    (tmp_path / "e.hea").touch()
    with pytest.raises(RecordFormatError, match="empty"):
        WfdbSource.open(tmp_path / "e.hea")


def test_long_records_are_read_in_bounded_memory(tmp_path):
    n = 2_000_000
    path = record(tmp_path, first=f"x 1 1000 {n}", samples=np.zeros(n))
    source = WfdbSource.open(path)
    next(iter(source.chunks()))  # what is loaded once
    tracemalloc.start()
    total = sum(chunk.size for chunk in source.chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == n
    assert peak < 8 * 2**20  # the whole lead would be 8 MB as int32 alone


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet="x 0123456789./()+:-eEmV~\n#", max_size=300).map(str.encode))
def test_any_header_bytes_are_parsed_or_refused(content):
    try:
        header = parse_header(content)
    except InputError:
        return
    assert header.signals or header.segments
    assert isinstance(header.frame_rate_hz, Fraction)


@pytest.mark.parametrize("name", ["A00001", "041s01", "data_101_6", "own"])
def test_truncated_and_flipped_files_never_surprise(tmp_path, name):
    if name == "own":
        header, signal_name, signal = record(tmp_path).read_bytes(), "x.dat", SAMPLES.tobytes()
    else:
        if not FORMATS.is_dir():
            pytest.skip("needs ../shared/data/formats")
        header = (FORMATS / f"{name}.hea").read_bytes()
        signal_name = f"{name}.mat" if name == "A00001" else f"{name}.dat"
        signal = (FORMATS / signal_name).read_bytes()
    path, signal_path = tmp_path / "y.hea", tmp_path / signal_name
    started, messages = time.monotonic(), []
    rng = np.random.default_rng(27)
    for percent in range(0, 100, 5):
        path.write_bytes(header)
        signal_path.write_bytes(signal[: len(signal) * percent // 100])
        with pytest.raises(InputError):  # any shortening is noticed before a sample is used
            WfdbSource.open(path)
        signal_path.write_bytes(signal)
        path.write_bytes(header[: len(header) * percent // 100])
        messages.append(refusal(lambda: read(path)))
    for _ in range(100):
        flipped = bytearray(header)
        for at in rng.integers(0, len(flipped), rng.integers(1, 4)):
            flipped[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(flipped)
        messages.append(refusal(lambda: read(path)))
    assert any(messages)
    assert not [message for message in messages if "\n" in message or str(tmp_path) in message]
    assert time.monotonic() - started < 60
