"""How the `einthoven` command shows heart rate and signal quality: one document, and the same for people."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from rich.console import Console

from einthoven.heart_rate_variability import HeartRateVariability, HrvRefusal
from einthoven.heart_summary import HeartSummary
from einthoven.results import BeatClass
from einthoven.rr_artefacts import IntervalClass
from einthoven.signals import SignalAnalysis

Document = dict[str, Any]

_REFUSAL = {
    HrvRefusal.TOO_SHORT: "less than a minute of normal intervals",
    HrvRefusal.TOO_FEW_INTERVALS: "too few normal intervals",
    HrvRefusal.TOO_MANY_ARTEFACTS: "too many intervals that are not normal",
}


def heart_document(heart: HeartSummary) -> Document:
    """Return a summary with names instead of numbers."""
    return {
        "beats": heart.beats,
        "mean_bpm": _rounded(heart.mean_bpm),
        "lowest_bpm": _rounded(heart.lowest_bpm),
        "highest_bpm": _rounded(heart.highest_bpm),
        "inverted": heart.inverted,
        "variability": _variability(heart.variability),
        "signal": {
            "seconds": heart.seconds,
            "usable_s": heart.usable_s,
            "faults_s": {(flag.name or "").lower(): seconds for flag, seconds in heart.faults_s},
        },
    }


def beats_document(
    name: str, simulated: bool, rate: Fraction, signal: SignalAnalysis, heart: HeartSummary, notice: str
) -> Document:
    """Return everything about a recording's beats and its signal."""
    return {
        "record": name,
        "simulated": simulated,
        "sampling_rate_hz": float(rate),
        "heart": heart_document(heart),
        "beat_class_counts": class_counts(signal),
        "r_peaks": signal.r_peaks.tolist(),
        "r_amplitudes_uv": signal.amplitudes_uv.tolist(),
        "scores": signal.scores.tolist(),
        "beat_classes": [BeatClass(value).name.lower() for value in signal.classes.tolist()],
        "beat_class_permille": signal.class_permille.tolist(),
        "rr_ms": [value / 1000 for value in heart.rr.intervals_us.tolist()],
        "rr_classes": [IntervalClass(value).name.lower() for value in heart.rr.classes.tolist()],
        "quality_flags": signal.flags.tolist(),
        "quality_index": signal.quality_index.tolist(),
        "notice": notice,
    }


def class_counts(signal: SignalAnalysis) -> dict[str, int]:
    """Beats of each class, by name."""
    counts = np.bincount(signal.classes, minlength=len(BeatClass)).tolist()
    return {kind.name.lower(): counts[kind] for kind in BeatClass}


def show_classes(out: Console, counts: dict[str, int]) -> None:
    """Show how many beats are of each class, in one line."""
    found = [f"{counts[kind.name.lower()]} {kind.name.lower()}" for kind in BeatClass if kind != BeatClass.UNKNOWN]
    unknown = counts[BeatClass.UNKNOWN.name.lower()]
    rest = f"; {unknown} not judged" if unknown else ""
    out.print(f"Beat classes: {', '.join(found)}{rest}", markup=False)


def show_heart(out: Console, heart: Document) -> None:
    """Show heart rate, variability and signal in three lines at most."""
    if heart["mean_bpm"] is None:
        out.print(f"Heart rate: none, {heart['beats']} beats found in no usable stretch", markup=False)
    else:
        turned = "; complexes point down, as with swapped electrodes" if heart["inverted"] else ""
        out.print(
            f"Heart rate: {heart['mean_bpm']:.0f}/min (single intervals {heart['lowest_bpm']:.0f} to "
            f"{heart['highest_bpm']:.0f}), {heart['beats']} beats{turned}",
            markup=False,
        )
    found = heart["variability"]
    if found["refused"]:
        out.print(f"Variability: not given, {found['refused']}", markup=False)
    else:
        out.print(
            f"Variability: SDNN {found['sdnn_ms']:.0f} ms, RMSSD {found['rmssd_ms']:.0f} ms, pNN50 "
            f"{found['pnn50_percent']:.0f} % (n = {found['normal_intervals']} normal intervals, {found['nn_s']:.0f} s)",
            markup=False,
        )
    signal = heart["signal"]
    faults = ", ".join(f"{name.replace('_', ' ')} {seconds} s" for name, seconds in signal["faults_s"].items())
    out.print(
        f"Signal: {signal['usable_s']} of {signal['seconds']} s usable{': ' + faults if faults else ''}", markup=False
    )


def _variability(found: HeartRateVariability) -> Document:
    document: Document = {
        "refused": _REFUSAL.get(found.refusal),
        "normal_intervals": found.n_normal,
        "intervals": found.n_intervals,
        "nn_s": found.nn_s,
        "artefact_share": found.artefact_permille / 1000,
    }
    if found.measures is not None:
        document |= {
            "mean_nn_ms": found.measures.mean_nn_ms,
            "sdnn_ms": found.measures.sdnn_ms,
            "rmssd_ms": found.measures.rmssd_ms,
            "pnn50_percent": found.measures.pnn50_percent,
            "triangular_index": found.measures.triangular_index,
        }
        if found.measures.long_term is not None:
            day = found.measures.long_term
            document |= {"sdann_ms": day.sdann_ms, "sdnn_index_ms": day.sdnn_index_ms, "segments_5_min": day.segments}
    return document


def _rounded(rate_bpm: float | None) -> float | None:
    return None if rate_bpm is None else round(rate_bpm, 1)
