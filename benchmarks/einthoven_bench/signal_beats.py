"""QRS detection on clean and on noisy records: one task a record, and the figures of a data set.

It deliberately knows no detector (``signal_detectors``) and no rule of comparison (``ec57``).

A second counts as usable where its quality flags are 0; what follows the last whole second was not judged and is not
usable. Beats are compared over usable seconds by the rule of ``ec57``: match first, leave out afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.annotations import Reference, outside
from einthoven_bench.ec57 import BeatCounts, count_beats, match_beats
from einthoven_bench.figures import Figure
from einthoven_bench.noise_stress import noise_gain, noise_power_uv2, signal_power_uv2, with_noise
from einthoven_bench.signal_detectors import Analysis, detector
from einthoven_bench.uncertainty import median_interval, pooled_interval


@dataclass(frozen=True, slots=True)
class RecordTask:
    """A record to run a detector over.

    Attributes:
        record_id: Its name.
        sampling_rate_hz: Exact.
        samples_uv: int32 [n], first channel.
        reference: What is known about it.
        detector: Name in ``signal_detectors``.
        noise_uv: float64 [n] or ``None``: noise to add.
        snrs_db: Levels to add it at.
    """

    record_id: str
    sampling_rate_hz: Fraction
    samples_uv: NDArray[np.int32]
    reference: Reference
    detector: str = "sdk"
    noise_uv: NDArray[np.float64] | None = None
    snrs_db: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of a detector over one signal.

    Attributes:
        beats: Counts with flutter and unmarked stretches left out.
        flutter_in: Counts with only unmarked stretches left out.
        usable: ``beats`` with unusable seconds left out as well; equal to ``beats`` from a detector without quality.
        errors_ms: float64 [TP of ``beats``], detection minus reference.
        drawn_errors_ms: float64 [m], detection minus R peak set by hand, where there are such.
        seconds: Whole seconds that were judged.
        usable_seconds: Of these, without a flag.
        wall_s: Time of the run.
    """

    beats: BeatCounts
    flutter_in: BeatCounts
    usable: BeatCounts
    errors_ms: NDArray[np.float64]
    drawn_errors_ms: NDArray[np.float64]
    seconds: int
    usable_seconds: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """What a task found.

    Attributes:
        record_id: Its name.
        duration_s: Length of the record.
        clean: On the record as it is.
        noisy: By signal-to-noise ratio in dB; empty where noise can't be scaled to this record.
    """

    record_id: str
    duration_s: float
    clean: Comparison
    noisy: dict[int, Comparison] = field(default_factory=dict)


def assess_record(task: RecordTask) -> RecordOutcome:
    """Run the detector over a record, as it is and with noise."""
    rate, samples = task.sampling_rate_hz, task.samples_uv
    clean = _compared(task, samples)
    noisy = {}
    if task.noise_uv is not None:
        normal = task.reference.beats[task.reference.normal]
        signal_uv2 = signal_power_uv2(samples, normal if len(normal) else task.reference.beats, rate)
        noise_uv2 = noise_power_uv2(task.noise_uv, rate)
        if signal_uv2 and noise_uv2:
            for snr_db in task.snrs_db:
                gain = noise_gain(signal_uv2, noise_uv2, snr_db)
                noisy[snr_db] = _compared(task, with_noise(samples, task.noise_uv, gain))
    return RecordOutcome(task.record_id, float(len(samples) / rate), clean, noisy)


def _compared(task: RecordTask, samples_uv: NDArray[np.int32]) -> Comparison:
    began = time.perf_counter()
    analysis = detector(task.detector)(samples_uv, task.sampling_rate_hz)
    wall_s = time.perf_counter() - began
    return compare(analysis, task.reference, task.sampling_rate_hz, wall_s)


def compare(analysis: Analysis, reference: Reference, rate: Fraction, wall_s: float = 0.0) -> Comparison:
    """Match a detector's beats with the reference and count, with this and that left out."""
    detected = analysis.r_peaks
    pairs = match_beats(reference.beats, detected, rate)
    both = (reference.beats, detected)
    marked = [outside(side, reference.unmarked) for side in both]
    counted = [keep & outside(side, reference.flutter) for side, keep in zip(both, marked, strict=True)]
    usable = counted
    if analysis.flags is not None:
        usable = [keep & _in_usable(side, analysis.flags, rate) for side, keep in zip(both, counted, strict=True)]
    errors = (detected[pairs[:, 1]] - reference.beats[pairs[:, 0]])[counted[0][pairs[:, 0]]]
    drawn = reference.drawn_peaks
    drawn_pairs = match_beats(drawn, detected, rate)
    drawn_errors = detected[drawn_pairs[:, 1]] - drawn[drawn_pairs[:, 0]]
    flags = np.zeros(0, np.uint16) if analysis.flags is None else analysis.flags
    return Comparison(
        beats=count_beats(pairs, *counted),
        flutter_in=count_beats(pairs, *marked),
        usable=count_beats(pairs, *usable),
        errors_ms=np.asarray(errors * float(1000 / rate), np.float64),
        drawn_errors_ms=np.asarray(drawn_errors * float(1000 / rate), np.float64),
        seconds=len(flags),
        usable_seconds=int((flags == 0).sum()),
        wall_s=wall_s,
    )


def _in_usable(samples: NDArray[np.int64], flags: NDArray[np.uint16], rate: Fraction) -> NDArray[np.bool_]:
    seconds = samples * rate.denominator // rate.numerator
    usable = np.concatenate([flags == 0, [False]])
    return np.asarray(usable[np.clip(seconds, 0, len(flags))])


def f1_figure(name: str, counts: Sequence[BeatCounts], note: str) -> Figure | None:
    """Pooled F1 with its interval; ``None`` without a reference beat."""
    total = sum(counts, BeatCounts())
    if total.f1 is None or not total.reference_beats:
        return None
    array = np.stack([one.as_array() for one in counts])
    spread = pooled_interval(
        array, lambda drawn: 2 * drawn[:, 0] / np.maximum(2 * drawn[:, 0] + drawn[:, 1:].sum(1), 1)
    )
    means = [one.f1 for one in counts if one.f1 is not None]
    said = (
        f"gross over {len(counts)} records: TP {total.true_positives}, FN {total.false_negatives}, "
        f"FP {total.false_positives}; mean of records {np.mean(means):.5f}, least {min(means):.5f}; {note}"
    )
    return Figure(name, total.f1, "1", total.reference_beats, spread, said)


def beat_figures(prefix: str, outcomes: Sequence[RecordOutcome], note: str) -> list[Figure]:
    """The figures of clean records."""
    clean = [outcome.clean for outcome in outcomes]
    counts = [one.beats for one in clean]
    total = sum(counts, BeatCounts())
    found = [
        f1_figure(f"{prefix}.qrs_f1", counts, note),
        f1_figure(
            f"{prefix}.qrs_f1_flutter_in", [one.flutter_in for one in clean], "flutter and fibrillation not left out"
        ),
    ]
    array = np.stack([one.as_array() for one in counts])
    for name, value, column in (
        ("qrs_sensitivity", total.sensitivity, 1),
        ("qrs_positive_predictivity", total.positive_predictivity, 2),
    ):
        if value is not None:
            spread = pooled_interval(array[:, [0, column]], _first_share)
            found.append(Figure(f"{prefix}.{name}", value, "1", total.reference_beats, spread, "gross"))
    by_marks = [one.errors_ms for one in clean]
    drawn = [one.drawn_errors_ms for one in clean]
    if any(len(errors) for errors in drawn):
        found.append(_error_figure(f"{prefix}.r_error_ms_median", drawn, "R peaks set by hand"))
        found.append(
            _error_figure(f"{prefix}.r_error_ms_median_beat_marks", by_marks, "beat marks, wherever on the QRS")
        )
    else:
        found.append(_error_figure(f"{prefix}.r_error_ms_median", by_marks, "beat marks"))
    return [figure for figure in found if figure is not None]


def _first_share(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(drawn[:, 0] / np.maximum(drawn.sum(axis=1), 1))


def _error_figure(name: str, by_record: Sequence[NDArray[np.float64]], against: str) -> Figure | None:
    errors = np.concatenate(by_record)
    if not len(errors):
        return None
    distance = np.abs(errors)
    record = np.repeat(np.arange(len(by_record)), [len(one) for one in by_record])
    p95 = np.percentile(distance, 95)
    note = f"|detection - reference|, {against}; 95th percentile {p95:.4g} ms, signed median {np.median(errors):.4g} ms"
    spread = median_interval(distance, record, len(by_record))
    return Figure(name, float(np.median(distance)), "ms", len(errors), spread, note)


def record_row(dataset: str, outcome: RecordOutcome, detector_name: str = "sdk") -> dict[str, Any]:
    """One record for the table and the document."""
    counts, errors = outcome.clean.beats, outcome.clean.errors_ms
    flutter = outcome.clean.flutter_in

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(float(value), 6)

    return {
        "dataset": dataset,
        "record_id": outcome.record_id,
        "detector": detector_name,
        "beats": counts.reference_beats,
        "tp": counts.true_positives,
        "fp": counts.false_positives,
        "fn": counts.false_negatives,
        "sensitivity": rounded(counts.sensitivity),
        "positive_predictivity": rounded(counts.positive_predictivity),
        "f1": rounded(counts.f1),
        "f1_flutter_in": rounded(flutter.f1),
        "r_error_ms_median": rounded(float(np.median(np.abs(errors))) if len(errors) else None),
        "usable_s": outcome.clean.usable_seconds,
        "judged_s": outcome.clean.seconds,
    }
