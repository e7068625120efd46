"""How well the quality index tells recordings that experts called too noisy from the others.

A recording's score is the mean quality index of its whole seconds. It deliberately uses no threshold: the area under
the ROC curve asks only for the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.figures import Figure
from einthoven_bench.signal_detectors import sdk
from einthoven_bench.uncertainty import area_interval, area_under_curve

NOISY_LABEL: Final = "~"


@dataclass(frozen=True, slots=True)
class QualityTask:
    """A batch of recordings to score: samples int32 [n] each, at one rate each."""

    signals: Sequence[tuple[NDArray[np.int32], Fraction]]


def score_batch(task: QualityTask) -> list[float | None]:
    """Mean quality index of each recording; ``None`` for one under a second."""
    scores: list[float | None] = []
    for samples_uv, rate in task.signals:
        index = sdk(samples_uv, rate).index
        scores.append(float(index.mean()) if index is not None and len(index) else None)
    return scores


def quality_figures(scores: Sequence[float | None], labels: Sequence[str]) -> list[Figure]:
    """The area, where both kinds of recording are there."""
    known = [(score, label) for score, label in zip(scores, labels, strict=True) if score is not None]
    noisy = np.array([score for score, label in known if label == NOISY_LABEL])
    rest = np.array([score for score, label in known if label != NOISY_LABEL])
    if not (len(noisy) and len(rest)):
        return []
    note = (
        f"score: mean quality index of a recording; {len(noisy)} labelled {NOISY_LABEL} "
        f"(median {np.median(noisy):.1f}) against {len(rest)} others (median {np.median(rest):.1f})"
    )
    area = area_under_curve(noisy, rest)
    return [Figure("signal.quality_auc", area, "1", len(known), area_interval(noisy, rest), note)]
