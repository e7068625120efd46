"""Turns scores into the figures that ``figures.csv`` names, with n and 95 % interval.

It deliberately prints only what was measured: a figure without a record it rests on is left out.
"""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven_conversion.datasets import LABELS
from einthoven_conversion.metrics import (
    bootstrap_interval,
    confusion,
    expected_calibration_error,
    f1_interval,
    f1_scores,
    mean_f1_nao,
    proportion_interval,
)
from einthoven_conversion.scoring import Scores

AF = 1
NOISE = 3


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
    found = []

    def add(name: str, value: float, count: int, spread: list[float], remark: str) -> None:
        found.append(
            {
                "id": f"model.{dataset}.{name}",
                "value": round(float(value), 5),
                "unit": "1",
                "n": count,
                "spread": [round(edge, 5) for edge in spread],
                "note": "; ".join(part for part in (remark, note) if part),
            }
        )

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
    return found


def _add_selective(add: Any, scores: Scores) -> None:
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
