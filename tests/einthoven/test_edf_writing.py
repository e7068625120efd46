"""EDF+ and BDF+ as we write them: our own reader and edfio read back every microvolt, moment and note."""

from __future__ import annotations

import io
import tracemalloc
from fractions import Fraction
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from einthoven.edf_layout import MAX_RATE_ERROR, NEGLIGIBLE_RATE_ERROR, record_layout
from einthoven.edf_tals import MAX_TEXT_BYTES, Tal, place_tals, tal_bytes
from einthoven.edf_writing import MAX_BDF_UV, MAX_EDF_UV, MAX_RECORDS, EdfPlanner, Stretch, edf_bytes, write_edf
from einthoven.errors import InputError, SamplingRateError
from einthoven.ports import MISSING_UV
from einthoven.source_edf import EdfSource

STARTED_AT_MS = 1_763_805_600_123  # 2025-11-22 10:00:00.123 UTC


def write(folder: Path, *stretches: Stretch, rate_hz=Fraction(250), started_at_ms=STARTED_AT_MS, tals=(), **options):
    path = folder / "x.edf"
    with path.open("wb") as file:
        plan = write_edf(
            file, lambda: stretches, rate_hz=Fraction(rate_hz), started_at_ms=started_at_ms, tals=tals, **options
        )
    return path, plan


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(EdfSource.open(path).chunks()))


def placed(stretches) -> np.ndarray:
    """The samples of stretches on one line, from the first that was received to the last."""
    line = np.full(max(one.first + one.samples_uv.size for one in stretches), MISSING_UV, np.int32)
    for one in stretches:
        line[one.first : one.first + one.samples_uv.size] = one.samples_uv
    received = np.flatnonzero(line != MISSING_UV)
    return line[received[0] : received[-1] + 1]


def assert_read_back(path: Path, stretches) -> None:
    expected, found = placed(stretches), read(path)
    assert np.array_equal(found[: expected.size], expected)
    assert (found[expected.size :] == MISSING_UV).all(), "what pads the last data record is missing"


def tal(onset_s: Fraction | int, text: str, duration_s: int | None = None) -> Tal:
    return Tal(round(onset_s * 10**6), text, None if duration_s is None else duration_s * 10**6)


def ecg(n: int, seed: int = 0, largest_uv: int = 3_000) -> np.ndarray:
    return np.random.default_rng(seed).integers(-largest_uv, largest_uv + 1, n, dtype=np.int32)


# ---- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("largest_uv", "form"), [(MAX_EDF_UV, "EDF+C"), (MAX_EDF_UV + 1, "BDF+C"), (999_999, "BDF+C")])
def test_every_microvolt_comes_back(tmp_path, largest_uv, form):
    samples = np.r_[ecg(2_498, largest_uv=largest_uv - 1), largest_uv, -largest_uv].astype(np.int32)
    path, plan = write(tmp_path, Stretch(0, samples))
    assert path.read_bytes()[192:236].decode().strip() == form
    assert not plan.interrupted
    assert np.array_equal(read(path), samples)
    other = (edfio.read_edf if plan.sample_bytes == 2 else edfio.read_bdf)(path)
    assert np.array_equal(np.rint(other.signals[0].data).astype(np.int64), samples)
    assert other.signals[0].physical_dimension == "uV"
    assert other.signals[0].sampling_frequency == 250


def test_the_largest_amplitude_of_24_bits_is_written_and_more_is_refused(tmp_path):
    samples = np.array([MAX_BDF_UV, -MAX_BDF_UV, 0, MISSING_UV], np.int32)
    path, _ = write(tmp_path, Stretch(0, samples))
    assert edfio.read_bdf(path).signals[0].digital[:4].tolist() == [MAX_BDF_UV, -MAX_BDF_UV, 0, -MAX_BDF_UV - 1]
    planner = EdfPlanner(Fraction(250), 0)
    for beyond in (MAX_BDF_UV + 1, -MAX_BDF_UV - 1, 2**31 - 1, -(2**31) + 1):
        with pytest.raises(InputError, match="uV"):
            planner.add(Stretch(0, np.array([beyond], np.int32)))
    assert planner.plan() is None, "a refused stretch must leave no trace"


@pytest.mark.parametrize("missing", [slice(100, 150), slice(0, 700), slice(2_400, 2_500), slice(260, 2_499)])
@pytest.mark.parametrize("largest_uv", [3_000, 100_000])
def test_samples_never_received_are_gaps(tmp_path, missing, largest_uv):
    samples = ecg(2_500, largest_uv=largest_uv)
    samples[missing] = MISSING_UV
    path, plan = write(tmp_path, Stretch(0, samples))
    assert_read_back(path, [Stretch(0, samples)])
    assert plan.n_samples == (samples != MISSING_UV).sum()


def test_a_pause_takes_no_room_and_says_so(tmp_path):
    stretches = [Stretch(0, ecg(2_500)), Stretch(250 * 3_600, ecg(2_500, 1))]
    path, plan = write(tmp_path, *stretches)
    assert plan.interrupted
    assert path.read_bytes()[192:197] == b"EDF+D"
    assert path.stat().st_size < 20_000
    assert_read_back(path, stretches)
    assert not edfio.read_edf(path).is_continuous


def test_a_recording_without_a_sample_is_refused(tmp_path):
    with pytest.raises(InputError, match="no samples"):
        write(tmp_path, Stretch(0, np.full(500, MISSING_UV, np.int32)))
    assert (tmp_path / "x.edf").stat().st_size == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(1, 900), st.floats(0, 1), st.integers(0, 2**32 - 1)), max_size=6
    ),
    rate_hz=st.sampled_from([Fraction(100), Fraction(128), Fraction(1000, 3), Fraction("512.617"), Fraction(997)]),
    started_at_ms=st.integers(0, 4 * 10**12),
    largest_uv=st.sampled_from([5, 32_767, 40_000]),
)
def test_any_recording_comes_back(tmp_path, runs, rate_hz, started_at_ms, largest_uv):
    stretches, at = [], 0
    for pause, length, missing, seed in [(0, 300, 0.0, 0), *runs]:
        rng = np.random.default_rng(seed)
        samples = rng.integers(-largest_uv, largest_uv + 1, length, dtype=np.int32)
        samples[rng.random(length) < missing] = MISSING_UV
        stretches.append(Stretch(at + pause, samples))
        at += pause + length
    path, plan = write(tmp_path, *stretches, rate_hz=rate_hz, started_at_ms=started_at_ms)
    assert_read_back(path, stretches)
    source = EdfSource.open(path)
    assert abs(source.sampling_rate_hz / rate_hz - 1) <= MAX_RATE_ERROR
    assert (source.sampling_rate_hz == rate_hz) == (plan.layout.rate_error == 0)
    other = (edfio.read_edf if plan.sample_bytes == 2 else edfio.read_bdf)(path)
    assert other.is_continuous != plan.interrupted
    expected = placed(stretches)
    kept = other.signals[0].digital
    assert np.array_equal(kept[kept != -(2 ** (8 * plan.sample_bytes - 1))], expected[expected != MISSING_UV])


def test_what_vanishes_between_the_passes_is_missing_and_moves_nothing():
    stretches = [Stretch(0, ecg(1_000)), Stretch(1_000, ecg(1_000, 1)), Stretch(5_000, ecg(1_000, 2))]
    planner = EdfPlanner(Fraction(250), STARTED_AT_MS)
    for stretch in stretches:
        planner.add(stretch)
    plan = planner.plan()
    whole = b"".join(edf_bytes(plan, stretches))
    without = b"".join(edf_bytes(plan, [stretches[0], stretches[2]]))
    louder = b"".join(
        edf_bytes(plan, [stretches[0], Stretch(1_000, stretches[1].samples_uv * 0 + 40_000), stretches[2]])
    )
    assert len(whole) == len(without)
    assert without == louder, "what does not fit the plan is left out"
    other = edfio.read_edf(without).signals[0].digital
    assert np.array_equal(other[:1_000], stretches[0].samples_uv)
    assert (other[1_000:2_000] == -32_768).all()
    assert np.array_equal(other[2_000:], stretches[2].samples_uv)


def test_a_long_recording_takes_the_memory_of_its_data_records():
    minute = ecg(500 * 60)

    def hours():
        return (Stretch(n * minute.size, minute) for n in range(240))

    with Path("/dev/null").open("wb") as file:
        tracemalloc.start()
        try:
            plan = write_edf(file, hours, rate_hz=Fraction(500), started_at_ms=0)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert plan.n_samples == 4 * 3_600 * 500
    assert peak_bytes < plan.n_samples, "its samples as int32 take four times that"


def test_too_many_data_records_are_refused():
    planner, stretch = EdfPlanner(Fraction(100), 0), np.zeros(100_000, np.int32)
    for n in range(MAX_RECORDS // 1_000 + 1):
        planner.add(Stretch(n * stretch.size, stretch))
    with pytest.raises(InputError, match="data records"):
        planner.plan()


# ---- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "n_samples", "record_text"),
    [
        ("100", 100, "1"),
        ("130", 130, "1"),
        ("1000", 1_000, "1"),
        ("512.5", 492, "0.96"),
        ("1000/3", 333, "0.999"),
        ("257.3", 2_573, "10"),
        ("125.1", 1_251, "10"),
    ],
)
def test_a_rate_is_stated_exactly_where_a_record_can(rate, n_samples, record_text):
    layout = record_layout(Fraction(rate))
    assert (layout.n_samples, layout.record_text, layout.rate_error) == (n_samples, record_text, 0)
    assert layout.stated_rate_hz == Fraction(rate)


@pytest.mark.parametrize("rate", ["512.617", "511.422", "300.0001", "100003/999"])
def test_a_rate_that_no_record_states_is_off_by_less_than_a_crystal(rate):
    layout = record_layout(Fraction(rate))
    assert layout.rate_error == layout.stated_rate_hz / Fraction(rate) - 1
    assert 0 < abs(layout.rate_error) <= NEGLIGIBLE_RATE_ERROR


@settings(max_examples=60)
@given(st.fractions(100, 1_000, max_denominator=10**6))
def test_every_rate_has_a_layout_within_its_limit(rate_hz):
    layout = record_layout(rate_hz)
    assert abs(layout.rate_error) <= MAX_RATE_ERROR
    assert len(layout.record_text) <= 8
    assert 0 < layout.record_s <= 10
    assert layout.stated_rate_hz * layout.record_s == layout.n_samples


@pytest.mark.parametrize("rate_hz", [Fraction(0), Fraction(99), Fraction(1001), Fraction(-250), Fraction(1, 10**9)])
def test_rates_that_no_reader_takes_back_are_refused(rate_hz):
    with pytest.raises(SamplingRateError, match="100-1000"):
        record_layout(rate_hz)


# ---- time and identity -----------------------------------------------------------------------------------------------


def test_the_start_is_utc_to_the_microsecond(tmp_path):
    path, _ = write(tmp_path, Stretch(0, ecg(500)))
    other = edfio.read_edf(path)
    assert other.startdate.isoformat() == "2025-11-22"
    assert other.starttime.isoformat() == "10:00:00.123000"
    path, plan = write(tmp_path, Stretch(300, ecg(500)))
    assert edfio.read_edf(path).starttime.isoformat() == "10:00:01.323000"
    assert plan.onset_us(300) == 323_000


@pytest.mark.parametrize(
    ("started_at_ms", "date", "shown"),
    [
        (0, "01.01.yy", "01-JAN-1970"),
        (4 * 10**12, "02.10.yy", "02-OCT-2096"),
        (500_000_000_000, "05.11.85", "05-NOV-1985"),
    ],
)
def test_a_year_that_two_digits_do_not_say_is_said_in_full(tmp_path, started_at_ms, date, shown):
    path, _ = write(tmp_path, Stretch(0, ecg(500)), started_at_ms=started_at_ms)
    content = path.read_bytes()
    assert content[168:176].decode() == date
    assert content[88:168].decode().split()[1] == shown
    assert np.array_equal(read(path), ecg(500))


def test_nothing_identifies_but_a_pseudonym(tmp_path):
    path, _ = write(tmp_path, Stretch(0, ecg(500)))
    assert path.read_bytes()[8:88].decode().strip() == "X X X X"
    path, _ = write(tmp_path, Stretch(0, ecg(500)), pseudonym="Study7-012")
    assert edfio.read_edf(path).patient.code == "Study7-012"
    assert edfio.read_edf(path).patient.name == "X"
    for bad in ("", "Jane Doe", "x" * 41, "ä", "a\nb"):
        with pytest.raises(InputError, match="pseudonym") as caught:
            write(tmp_path, Stretch(0, ecg(500)), pseudonym=bad)
        assert not bad or bad not in str(caught.value)


def test_the_same_recording_gives_the_same_bytes(tmp_path):
    tals = [tal(Fraction(1), "Beat N")]
    first = write(tmp_path, Stretch(0, ecg(5_000)), tals=tals)[0].read_bytes()
    assert write(tmp_path, Stretch(0, ecg(2_000)), Stretch(2_000, ecg(5_000)[2_000:]), tals=tals)[0].read_bytes() != b""
    assert write(tmp_path, Stretch(0, ecg(5_000)), tals=tals)[0].read_bytes() == first


# ---- annotations -----------------------------------------------------------------------------------------------------


def test_annotations_are_read_by_others(tmp_path):
    tals = [
        tal(Fraction(123, 1000), "Result 3-1-1: Normal rhythm", 10),
        *[tal(Fraction(n, 3), "Beat N") for n in range(1, 30)],
        tal(Fraction(9), "Note: größer \u2265 5 \U0001f600"),
    ]
    tals.sort(key=lambda one: one.onset_us)
    path, _ = write(tmp_path, Stretch(0, ecg(2_500)), tals=tals)
    found = edfio.read_edf(path).annotations
    assert [(one.text, one.duration) for one in found] == [
        (one.text, None if one.duration_us is None else one.duration_us / 10**6) for one in tals
    ]
    # edfio counts from the first sample, 0.123 s after the header's second.
    assert np.allclose([one.onset for one in found], [one.onset_us / 10**6 - 0.123 for one in tals], atol=1e-6)
    assert np.array_equal(read(path), ecg(2_500))


def test_a_text_can_not_break_out_of_its_annotation(tmp_path):
    path, _ = write(tmp_path, Stretch(0, ecg(500)), tals=[tal(Fraction(1), "a\x14\x00+5\x14evil\x15b\r\nc")])
    assert [one.text for one in edfio.read_edf(path).annotations] == ["a  +5 evil b  c"]


def test_a_long_text_goes_on_in_further_annotations(tmp_path):
    said = "é€\U0001f600x" * 150
    path, _ = write(tmp_path, Stretch(0, ecg(500)), tals=[tal(Fraction(1), said)])
    found = edfio.read_edf(path).annotations
    assert "".join(one.text for one in found) == said
    assert {one.onset for one in found} == {0.877}
    assert all(len(one.text.encode()) <= MAX_TEXT_BYTES for one in found)


@pytest.mark.parametrize("onset_s", [Fraction(-5), Fraction(3_600)])
def test_an_annotation_outside_of_the_signal_is_kept(tmp_path, onset_s):
    path, _ = write(tmp_path, Stretch(0, ecg(500)), tals=[tal(onset_s, "far")], started_at_ms=0)
    assert [(one.onset, one.text) for one in edfio.read_edf(path).annotations] == [(float(onset_s), "far")]


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 240), st.integers(0, 19)), max_size=200),
    st.sampled_from([2, 3]),
)
def test_every_annotation_finds_a_place_at_or_after_its_time(tals, multiple):
    sizes = [size for size, _ in tals]
    targets = sorted(target for _, target in tals)
    places = place_tals(sizes, targets, n_records=20, head_bytes=9, multiple=multiple)
    assert places.n_bytes % multiple == 0
    used = [9] * 20
    for size, target, record in zip(sizes, targets, places.records, strict=True):
        assert record >= target
        used[record] += size
    assert max(used) <= places.n_bytes
    assert list(places.records) == sorted(places.records)
    assert all(b"\x00" not in part[:-1] for part in tal_bytes(tal(Fraction(1, 3), "x")))


def test_an_open_file_is_all_it_takes():
    file = io.BytesIO()
    write_edf(file, lambda: [Stretch(0, ecg(500))], rate_hz=Fraction(250), started_at_ms=0)
    assert np.array_equal(edfio.read_edf(file.getvalue()).signals[0].digital, ecg(500))
