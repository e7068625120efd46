"""Scores integer tables on examples: the area under the ROC curve, and what is called usable where.

It deliberately leaves the raw flags out (gap, flat, clipped, mains): the figures of the whole path come from
``einthoven-bench signal``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.quality_network import REASONS, USABLE_INDEX, QualityNetwork
from einthoven_conversion.signal_quality.examples import Example
from einthoven_conversion.signal_quality.fitting import with_neighbours


def area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative, ties counting half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n_positive = int(positive.sum())
    return float(
        (ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * (len(scores) - n_positive))
    )


class Outcomes:
    """What tables made of examples, gathered over folds."""

    def __init__(self) -> None:
        self._records: list[tuple[float, bool]] = []
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._reasons = np.zeros((len(REASONS), len(REASONS)), np.int64)

    def add(self, network: QualityNetwork, examples: Sequence[Example], *, unseen_piece: int | None = None) -> None:
        """Judge examples with a network; what has noise of ``unseen_piece`` in it is also counted by itself."""
        for example in examples:
            index, scores = network.run(with_neighbours(example.measures).astype(np.int64))
            usable = index >= USABLE_INDEX
            if example.group == "label":
                self._records.append((float(index.mean()), bool(example.target[0])))
                self._count(f"cinc2017 {'N, A, O' if example.target[0] else '~'}", usable, example.right)
            elif example.group == "case":
                for reason, kind in enumerate(REASONS):
                    inside = (example.reason == reason) & (example.weight > 0)
                    self._count(f"case {kind.name}", usable[inside], inside[inside])
                    named = scores.argmax(axis=1)[inside & ~usable]
                    self._reasons[reason] += np.bincount(named, minlength=len(REASONS))
                outside = (example.target > 0) & (example.weight > 0)
                self._count("case, clean part", usable[outside], outside[outside])
            else:
                level = "clean" if example.group == "clean" else f"em {example.snr_db} dB"
                self._count(f"{example.name.split('/')[0]} {level}", usable, example.right)
                if example.piece == unseen_piece:
                    self._count(f"{example.name.split('/')[0]} {level}, noise not seen", usable, example.right)

    def _count(self, name: str, usable: NDArray[np.bool_], right: NDArray[np.bool_]) -> None:
        counts = self._counts[name]
        for i, value in enumerate((usable.sum(), len(usable), (usable & right).sum())):
            counts[i] += int(value)

    def as_dict(self) -> dict[str, Any]:
        """Figures with their n, for ``quality.json`` and for people."""
        scores = np.array([score for score, _ in self._records])
        noisy = np.array([not usable for _, usable in self._records])
        return {
            "auc": round(area_under_curve(-scores, noisy), 4),
            "records": len(scores),
            "noisy_records": int(noisy.sum()),
            "seconds": {
                name: {
                    "usable": round(usable / max(n, 1), 4),
                    "n": n,
                    "detector_right_where_usable": round(right / max(usable, 1), 4),
                }
                for name, (usable, n, right) in sorted(self._counts.items())
            },
            "reasons_named": {
                str(kind.name): dict(zip([str(one.name) for one in REASONS], row, strict=True))
                for kind, row in zip(REASONS, self._reasons.tolist(), strict=True)
            },
        }
