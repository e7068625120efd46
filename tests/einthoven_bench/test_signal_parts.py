"""The parts of `einthoven-bench signal`: each measure can fail, and says so."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from einthoven.errors import SamplingRateError
from einthoven_bench.annotations import Reference
from einthoven_bench.constructed_ecg import constructed_ecg
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.signal_beats import (
    RecordOutcome,
    RecordTask,
    assess_record,
    beat_figures,
    compare,
    f1_figure,
    record_row,
)
from einthoven_bench.signal_compression import CompressionTask, compress_batch, compression_figures, stored_bytes
from einthoven_bench.signal_cost import CostTask, cost_figures, measure_cost
from einthoven_bench.signal_detectors import Analysis, detector, installed_peers
from einthoven_bench.signal_digest import combined, digest_one, signals
from einthoven_bench.signal_exactness import ExactnessTask, check_exactness, random_cuts, with_gaps
from einthoven_bench.signal_noise import level_name, noise_figures
from einthoven_bench.signal_outputs import differing_bits, digest, gathered, output_bits, run_path
from einthoven_bench.signal_quality import quality_figures
from einthoven_bench.workers import batches, results_in_order

RATE = Fraction(300)


def reference(beats: list[int] | np.ndarray) -> Reference:
    array = np.array(beats, np.int64)
    return Reference(array, np.ones(len(array), np.bool_), [], [])


def test_constructed_signals_are_the_same_everywhere() -> None:
    """Frozen: digests of two machines are compared over this very signal."""
    import hashlib

    samples, peaks = constructed_ecg(60, RATE, seed=7)
    assert samples.dtype == np.int32
    assert len(samples) == 18_000
    assert np.abs(samples).max() < 2_000
    assert samples[peaks].min() > 600
    assert hashlib.sha256(samples.astype("<i4").tobytes()).hexdigest().startswith(CONSTRUCTED_SHA256)


CONSTRUCTED_SHA256 = "a7862e6534014606"


def test_the_sdk_is_behind_the_detector() -> None:
    samples, peaks = constructed_ecg(60, RATE, seed=1)
    analysis = detector("sdk")(samples, RATE)
    assert analysis.flags is not None
    assert len(analysis.flags) == 60
    found = compare(analysis, reference(peaks), RATE)
    assert found.beats.sensitivity is not None
    assert found.beats.sensitivity > 0.9


def test_r_error_is_against_peaks_set_by_hand_where_there_are_any() -> None:
    detected = np.array([300, 600, 900], np.int64)
    marked = reference([290, 590, 890])  # at the onset of the complex
    drawn = replace(marked, drawn_peaks=np.array([301, 601], np.int64))
    by_mark = {figure.id: figure for figure in beat_figures("signal.x", [_outcome(detected, marked)], "")}
    by_hand = {figure.id: figure for figure in beat_figures("signal.x", [_outcome(detected, drawn)], "")}
    assert by_mark["signal.x.r_error_ms_median"].value == pytest.approx(10 / 0.3)
    assert "signal.x.r_error_ms_median_beat_marks" not in by_mark
    assert by_hand["signal.x.r_error_ms_median"].value == pytest.approx(1 / 0.3)
    assert by_hand["signal.x.r_error_ms_median"].n == 2
    assert by_hand["signal.x.r_error_ms_median_beat_marks"].value == pytest.approx(10 / 0.3)


def _outcome(detected: np.ndarray, known: Reference) -> RecordOutcome:
    return RecordOutcome("x", 4.0, compare(Analysis(detected, np.zeros(4, np.uint16)), known, RATE))


@pytest.mark.parametrize("name", ["xqrs", "neurokit2"])
def test_peers_go_through_the_same_matcher(name: str) -> None:
    here, missing = installed_peers()
    if name not in here:
        pytest.skip(f"not installed: {missing}")
    samples, peaks = constructed_ecg(60, RATE, seed=1)
    outcome = assess_record(RecordTask("a", RATE, samples, reference(peaks), detector=name))
    assert outcome.clean.beats.f1 is not None
    assert outcome.clean.beats.f1 > 0.9
    assert outcome.clean.seconds == 0  # it judges no quality
    assert outcome.clean.usable == outcome.clean.beats


def test_unusable_seconds_are_left_out_of_both_sides() -> None:
    """Beats at 0.5, 1.5 ... 9.5 s; of the seconds 3 and 4 are flagged, and what follows second 9 was not judged."""
    beats = 150 + 300 * np.arange(11)
    flags = np.zeros(10, np.uint16)
    flags[3:5] = 16
    detected = np.sort(np.concatenate([np.delete(beats, [3, 6]), [4 * 300 + 10, 7 * 300 + 20]]))
    found = compare(Analysis(detected, flags, np.zeros(10, np.uint8)), reference(beats), RATE)
    assert (found.beats.true_positives, found.beats.false_negatives, found.beats.false_positives) == (9, 2, 2)
    assert (found.usable.true_positives, found.usable.false_negatives, found.usable.false_positives) == (7, 1, 1)
    assert (found.seconds, found.usable_seconds) == (10, 8)


def test_a_detection_across_a_seconds_edge_follows_its_beat() -> None:
    flags = np.array([0, 16, 0], np.uint16)
    beats, detected = np.array([295, 605]), np.array([305, 595])  # both beats usable, both detections not
    found = compare(Analysis(detected, flags), reference(beats), RATE).usable
    assert (found.true_positives, found.false_negatives, found.false_positives) == (2, 0, 0)
    found = compare(Analysis(beats, flags), reference(detected), RATE).usable
    assert (found.true_positives, found.false_negatives, found.false_positives) == (0, 0, 0)


def test_flutter_is_left_out_of_one_figure_and_in_the_other() -> None:
    flutter = Reference(np.array([300, 600]), np.ones(2, np.bool_), [(900, 1_800)], [])
    outcome = compare(Analysis(np.array([300, 600, 1_000, 1_200])), flutter, RATE)
    assert outcome.beats.false_positives == 0
    assert outcome.flutter_in.false_positives == 2


def test_error_is_signed_and_its_median_is_of_distances() -> None:
    outcome = assess_record(RecordTask("a", RATE, *_shifted(3), detector="sdk"))
    row = record_row("mitdb", outcome)
    assert row["record_id"] == "a"
    analysis = Analysis(np.array([303, 597, 903]))
    found = compare(analysis, reference([300, 600, 900]), RATE)
    assert np.allclose(found.errors_ms, [10, -10, 10])


def _shifted(seed: int) -> tuple[np.ndarray, Reference]:
    samples, peaks = constructed_ecg(30, RATE, seed)
    return samples, reference(peaks)


def test_no_reference_beat_no_figure() -> None:
    samples = np.zeros(3_000, np.int32)
    outcome = assess_record(RecordTask("a", RATE, samples, reference([]), detector="sdk"))
    assert beat_figures("signal.x", [outcome], "") == []
    assert f1_figure("signal.x", [outcome.clean.beats], "") is None


def test_noise_figures_of_the_levels_that_were_measured() -> None:
    samples, known = _shifted(4)
    noise = np.random.default_rng(0).normal(0, 100, len(samples))
    outcome = assess_record(RecordTask("a", RATE, samples, known, noise_uv=noise, snrs_db=(12, -6)))
    found = {figure.id: figure for figure in noise_figures("signal.mitdb", [outcome])}
    assert "signal.mitdb.qrs_f1_em_12db_everywhere" in found
    assert "signal.mitdb.qrs_f1_em_6db_everywhere" not in found
    flagged = found["signal.quality_flagged_em_minus6db"]
    assert flagged.value == pytest.approx(1 - found["signal.mitdb.usable_share_em_minus6db"].value)
    assert flagged.n == 30
    assert (level_name(12), level_name(-6), level_name(0)) == ("12db", "minus6db", "0db")


def test_a_record_that_noise_cannot_be_scaled_to_has_none() -> None:
    samples = np.zeros(3_000, np.int32)
    outcome = assess_record(RecordTask("a", RATE, samples, reference([900]), noise_uv=np.ones(3_000), snrs_db=(12,)))
    assert outcome.noisy == {}


def test_quality_needs_both_kinds_of_recording() -> None:
    assert quality_figures([50.0, None], ["N", "~"]) == []
    (figure,) = quality_figures([90.0, 80.0, 10.0, None], ["N", "A", "~", "~"])
    assert (figure.value, figure.n) == (1.0, 3)


def test_every_differing_bit_is_counted() -> None:
    left = {"a": np.array([1, 2, 3], np.int64), "b": np.array([0], np.uint8)}
    assert differing_bits(left, left) == 0
    assert differing_bits(left, left | {"a": np.array([1, 2, 2], np.int64)}) == 1
    assert differing_bits(left, left | {"b": np.array([255], np.uint8)}) == 8
    assert differing_bits(left, left | {"a": np.array([1, 2], np.int64)}) == 64
    assert differing_bits(left, {"a": left["a"]}) == 8
    assert output_bits(left) == 200


def test_digests_see_names_types_and_values() -> None:
    arrays = {"a": np.array([1, 2], np.int32)}
    digests = {
        digest(arrays),
        digest({"b": arrays["a"]}),
        digest({"a": arrays["a"].astype(np.int64)}),
        digest({"a": np.array([1, 3], np.int32)}),
        digest({"a": np.array([1, 2, 0], np.int32)}),
    }
    assert len(digests) == 5
    assert digest({"a": arrays["a"].astype(">i4")}) == digest(arrays)


def test_every_array_of_every_chunk_is_kept() -> None:
    samples, _ = constructed_ecg(20, RATE, seed=5)
    outputs = run_path(samples, RATE, [1, 500, 5_999])
    assert {"beats.r_peaks", "seconds.flags", "seconds.index"} <= set(outputs)
    assert len(outputs["seconds.flags"]) == 20
    assert gathered([]) == {}


def test_the_path_gives_the_same_bits_in_any_chunking() -> None:
    samples, _ = constructed_ecg(90, RATE, seed=6)
    outcome = check_exactness(ExactnessTask(samples, RATE, seed=0, one_sample_s=10))
    assert outcome.differing_bits == 0
    assert outcome.pushes > 3_000
    assert outcome.compared_bits > 0
    assert outcome.one_sample_seconds == 10


def test_random_cuts_are_ascending_and_inside() -> None:
    cuts = random_cuts(10_000, 64, np.random.default_rng(0))
    lengths = np.diff([0, *cuts, 10_000])
    assert lengths.min() >= 1
    assert lengths.max() <= 64
    assert 1 in lengths


def test_gaps_are_missing_samples() -> None:
    samples, _ = constructed_ecg(120, RATE, seed=0)
    holed = with_gaps(samples, RATE, np.random.default_rng(0))
    assert (holed == -(2**31)).any()
    assert np.array_equal(holed[holed != -(2**31)], samples[holed != -(2**31)])


def test_cost_figures_say_whether_both_ways_agree() -> None:
    samples, _ = constructed_ecg(60, RATE, seed=8)
    outcome = measure_cost(CostTask(samples, 90))
    assert outcome.differing_bits == 0
    assert len(outcome.second_s) == 90
    names = [figure.id for figure in cost_figures(outcome, "made")]
    assert names == ["signal.front_end_ms_per_s", "signal.day_x_real_time", "signal.numpy_call_us"]
    assert "same bits" in cost_figures(outcome, "made")[1].note
    assert "7 BITS DIFFER" in cost_figures(replace(outcome, differing_bits=7), "made")[1].note


def test_compression_counts_every_byte() -> None:
    from einthoven.ports import Segment
    from einthoven.segments import encode_segment

    samples, _ = constructed_ecg(60, RATE, seed=9)
    expected = len(encode_segment(Segment(RATE, samples))) + 32
    assert stored_bytes(samples, RATE, 120_000) == expected
    assert stored_bytes(samples, RATE, 9_000) > expected
    (sizes,) = compress_batch(CompressionTask([(np.stack([samples, 5 * samples]), RATE)]))
    assert sizes.stored == expected
    assert sizes.all_samples == 36_000
    assert sizes.flac is not None
    assert sizes.flac < 36_000
    found = {figure.id: figure.value for figure in compression_figures("signal.mitdb", [sizes])}
    assert found["signal.mitdb.bits_per_sample"] == pytest.approx(8 * expected / 18_000)
    assert {"signal.mitdb.bits_per_sample_flac", "signal.mitdb.bits_per_sample_zstd19"} <= set(found)


def test_peers_of_compression_get_the_sources_own_step() -> None:
    samples, _ = constructed_ecg(60, RATE, seed=9)
    plain, stepped = compress_batch(CompressionTask([(samples[None], RATE), (5 * samples[None] + 3, RATE)]))
    assert plain.flac == stepped.flac
    assert plain.zstd == stepped.zstd


def test_digests_of_a_run(tmp_path: object) -> None:
    parts = [digest_one(task) for task in signals(None, 0.01)]
    first, again = combined(parts), combined([digest_one(task) for task in signals(None, 0.01)])
    assert first == again
    assert first.input_sha256 != first.output_sha256
    assert first.records == 3


def test_the_sdks_refusal_keeps_its_words_and_status() -> None:
    with pytest.raises(MeasurementFailed, match="50 Hz") as refused:
        list(results_in_order(digest_one, [(np.zeros(100, np.int32), Fraction(50))], 0))
    assert refused.value.exit_status == SamplingRateError.exit_status
    with pytest.raises(MeasurementFailed, match="50 Hz") as refused:
        list(results_in_order(digest_one, [(np.zeros(100, np.int32), Fraction(50))], 1))
    assert refused.value.exit_status == SamplingRateError.exit_status


def test_results_come_in_order_from_processes() -> None:
    assert list(results_in_order(abs, range(-20, 0), 2)) == list(range(20, 0, -1))


def test_batches() -> None:
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
