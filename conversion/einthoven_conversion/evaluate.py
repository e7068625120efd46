"""Turns scores into the figures that ``figures.csv`` names, with n and 95 % interval.

It deliberately prints only what was measured: a figure without a record it rests on is left out.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion.datasets import LABELS
from einthoven_conversion.metrics import (
    area_under_curve,
    bootstrap_interval,
    confusion,
    expected_calibration_error,
    f1_interval,
    f1_scores,
    mean_f1_nao,
    proportion_interval,
)
from einthoven_conversion.scoring import Scores
from einthoven_conversion.verdict.calibrating import COVERAGE

AF = 1
NOISE = 3
SUBGROUP_LEAST = 50
"""Records that a subgroup must have to be reported."""


def machine() -> dict[str, Any]:
    """What the figures were measured on; no host name."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def figures(
    dataset: str, scores: Scores, *, float_rhythms: NDArray[np.int64] | None = None, note: str = ""
) -> list[dict[str, Any]]:
    """The figures of one scored data set.

    Args:
        dataset: Its name, the middle of the ids.
        scores: What the int8 model said.
        float_rhythms: int64 [n], what the float twin said, where there is one.
        note: Said with every figure.
    """
    labels, rhythms, n = scores.labels, scores.rhythms, len(scores.labels)
    counts = confusion(labels, rhythms)
    f1 = f1_scores(counts)
    add = FigureList(f"model.{dataset}", note)
    add("f1_nao", float(mean_f1_nao(f1)), n, f1_interval(counts, mean_f1_nao), "mean F1 of N, A, O over all records")
    if counts[AF].sum():
        add(
            "f1_af", f1[AF], n, f1_interval(counts, lambda drawn: drawn[..., AF]), f"{counts[AF].sum()} records with AF"
        )
    if float_rhythms is not None:
        loss = mean_f1_nao(f1) - mean_f1_nao(f1_scores(confusion(labels, float_rhythms)))

        def resampled(index: NDArray[np.int64]) -> float:
            whole = mean_f1_nao(f1_scores(confusion(labels[index], rhythms[index])))
            twin = mean_f1_nao(f1_scores(confusion(labels[index], float_rhythms[index])))
            return float(whole - twin)

        add("int8_minus_float", float(loss), n, bootstrap_interval(resampled, n), "difference of f1_nao")
    _add_selective(add, scores)
    undecided = int((~scores.conclusive).sum())
    noisy = int((~scores.conclusive & (labels == NOISE)).sum())
    add(
        "inconclusive",
        undecided / n,
        n,
        proportion_interval(undecided, n),
        f"share of all records, whatever the reason; {noisy} of these {undecided} are labelled ~",
    )
    confidence, correct = scores.confidences / 1000, rhythms == labels
    add(
        "ece",
        expected_calibration_error(confidence, correct),
        n,
        bootstrap_interval(lambda index: expected_calibration_error(confidence[index], correct[index]), n),
        "15 bins, four classes, all records",
    )
    _add_coverage(add, scores)
    if 0 < counts[AF].sum() < (labels != NOISE).sum():
        add("auc_af", *_af_area(scores), "AF against all other records but ~, whether they got a verdict or not")
    return add.found


class FigureList:
    """Figures in the form that a report holds them in.

    Args:
        prefix: Of their ids.
        note: Said with every figure.
    """

    def __init__(self, prefix: str, note: str = "") -> None:
        self._prefix = prefix
        self._note = note
        self.found: list[dict[str, Any]] = []

    def __call__(
        self, name: str, value: float, count: int, spread: Sequence[float], remark: str, part: str | None = None
    ) -> None:
        """Take a figure; ``part`` names the class or subgroup it is of."""
        figure = {
            "id": f"{self._prefix}.{name}",
            "value": round(float(value), 5),
            "unit": "1",
            "n": count,
            "spread": [round(float(edge), 5) for edge in spread],
            "note": "; ".join(one for one in (remark, self._note) if one),
        }
        self.found.append(figure if part is None else {**figure, "slice": part})


def _add_selective(add: FigureList, scores: Scores) -> None:
    """Sensitivity and specificity for AF among the records of N, A, O that got a verdict."""
    kept = scores.conclusive & (scores.labels != NOISE)
    is_af, says_af = scores.labels[kept] == AF, scores.rhythms[kept] == AF
    remark = f"of the {int(kept.sum())} records N, A, O with a verdict"
    if is_af.any():
        hits = int((is_af & says_af).sum())
        total = int(is_af.sum())
        add("selective_af_sensitivity", hits / total, total, proportion_interval(hits, total), remark)
    if (~is_af).any():
        hits = int((~is_af & ~says_af).sum())
        total = int((~is_af).sum())
        add("selective_af_specificity", hits / total, total, proportion_interval(hits, total), remark)


def _add_coverage(add: FigureList, scores: Scores) -> None:
    """How far the prediction sets' coverage is from the nominal one, the worst class, and each class."""
    n = len(scores.labels)
    present = [label for label in range(len(LABELS)) if (scores.labels == label).any()]
    covered = scores.in_set[np.arange(n), scores.labels]

    def worst(index: NDArray[np.int64]) -> float:
        return max(
            abs(float(covered[index][scores.labels[index] == label].mean()) - COVERAGE)
            for label in present
            if (scores.labels[index] == label).any()
        )

    shares = ", ".join(
        f"{LABELS[label]} {covered[scores.labels == label].mean():.3f} (n = {(scores.labels == label).sum()})"
        for label in present
    )
    width = scores.in_set.sum(axis=1).mean()
    remark = f"nominal {COVERAGE:.2f}; covered: {shares}; {width:.2f} classes a set"
    add("conformal_gap_max", worst(np.arange(n)), n, bootstrap_interval(worst, n), remark)


def _af_area(scores: Scores) -> tuple[float, int, list[float]]:
    """Area under the curve of the AF probability over the records N, A, O, its n and interval."""
    known = scores.labels != NOISE
    shares, is_af = scores.shares[known, AF], scores.labels[known] == AF
    n = int(known.sum())
    interval = bootstrap_interval(lambda index: area_under_curve(shares[index], is_af[index]), n)
    return area_under_curve(shares, is_af), n, interval


def noise_figures(dataset: str, clean: Scores, noisy: dict[int, Scores], note: str = "") -> list[dict[str, Any]]:
    """What electrode motion costs.

    Args:
        dataset: Its name, the middle of the ids.
        clean: The records as they are.
        noisy: The same records with noise, by signal-to-noise ratio in dB.
        note: Said with every figure.
    """
    add = FigureList(f"model.{dataset}", note)
    known = clean.labels != NOISE
    is_af = clean.labels[known] == AF
    n = int(known.sum())
    for snr_db, scores in noisy.items():
        before, after = clean.shares[known, AF], scores.shares[known, AF]

        def loss(index: NDArray[np.int64], before: Any = before, after: Any = after) -> float:
            return area_under_curve(before[index], is_af[index]) - area_under_curve(after[index], is_af[index])

        if is_af.any() and not is_af.all():
            add(
                f"auc_loss_em_{snr_db}db",
                loss(np.arange(n)),
                n,
                bootstrap_interval(loss, n),
                f"AF against N and O, with a verdict or not; {area_under_curve(before, is_af):.4f} without noise",
            )
        undecided = int((~scores.conclusive)[known].sum())
        add(
            f"inconclusive_em_{snr_db}db",
            undecided / n,
            n,
            proportion_interval(undecided, n),
            "share of the records N, A, O",
        )
        kept = scores.conclusive & known
        wrong = int(((scores.rhythms == AF) != (scores.labels == AF))[kept].sum())
        if kept.any():
            total = int(kept.sum())
            add(
                f"error_em_{snr_db}db",
                wrong / total,
                total,
                proportion_interval(wrong, total),
                "AF or not wrong, of the records N, A, O with a verdict",
            )
    return add.found


BANDS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("rate_bpm", "beats/min", (1, 50, 60, 80, 100, 1_000)),
    ("usable_permille", "permille of the seconds usable", (0, 500, 800, 1_000, 1_001)),
    ("seconds", "s long", (0, 15, 29, 31, 10_000)),
)


def subgroup_table(dataset: str, scores: Scores) -> dict[str, Any]:
    """F1 of N, A, O and the inconclusive share by heart rate, signal quality and length."""
    add = FigureList(f"model.{dataset}")
    for name, unit, edges in BANDS:
        values = getattr(scores, name)
        for low, high in pairwise(edges):
            part = scores.at((values >= low) & (values < high))
            n = len(part.labels)
            if n < SUBGROUP_LEAST:
                continue
            counts = confusion(part.labels, part.rhythms)
            label = f"{low} to {high - 1} {unit}"
            add("f1_nao", float(mean_f1_nao(f1_scores(counts))), n, f1_interval(counts, mean_f1_nao), "", label)
            undecided = int((~part.conclusive).sum())
            add("inconclusive", undecided / n, n, proportion_interval(undecided, n), "", label)
    return {
        "title": "Subgroups",
        "text": f"What a recording itself tells; subgroups under {SUBGROUP_LEAST} records are left out. Where a class "
        "is rare, its F1 is uncertain.",
        "figures": add.found,
    }


def class_table(scores: Scores) -> dict[str, Any]:
    """F1, its interval and n of each class, the confusion matrix, and how often each class got no verdict."""
    counts = confusion(scores.labels, scores.rhythms)
    f1 = f1_scores(counts)
    classes: dict[str, Any] = {"nao": round(float(mean_f1_nao(f1)), 5)}
    for i, label in enumerate(LABELS):
        mine = scores.labels == i
        edges = f1_interval(counts, lambda drawn, i=i: drawn[..., i])  # type: ignore[misc]
        classes[label] = {
            "n": int(mine.sum()),
            "f1": round(float(f1[i]), 5),
            "interval": [round(edge, 5) for edge in edges],
            "sensitivity": round(float(counts[i, i] / max(1, counts[i].sum())), 5),
            "inconclusive": round(float((mine & ~scores.conclusive).sum() / max(1, mine.sum())), 5),
        }
    classes["confusion"] = counts.tolist()
    return classes
