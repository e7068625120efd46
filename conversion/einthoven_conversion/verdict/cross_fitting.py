"""Forests, temperatures and thresholds by cross-fitting, so that every figure is of records that played no part.

For each fold a forest is grown on the other folds' records, of which it gets what *their* held-out networks said. Its
temperature, its thresholds and its prediction sets come from the same records, of which forests that saw neither them
nor this fold say something: for five folds, one forest for each two that are left out. What ships is grown on all
records, and calibrated on what the forests of all but one fold say of that fold.

It deliberately keeps one weakness, and says so: the networks that describe the other folds' records were trained on
records of this fold, so a trace of its labels is in what the forest learns from. No label of a record reaches its own
verdict.

Invariants:
    1. The tables for a fold are a function of the other folds' rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.probability import permilles
from einthoven.results import InconclusiveReason, Rhythm
from einthoven.verdict import Verdict, run_forest
from einthoven.verdict_tables import (
    CLASSES,
    SCHEMA,
    Outlyingness,
    PredictionSets,
    Trees,
    VerdictTables,
)
from einthoven.window_features import FEATURES
from einthoven_conversion.errors import TrainingFailed
from einthoven_conversion.temperature import fit_temperature
from einthoven_conversion.verdict.calibrating import (
    COVERAGE,
    OpenRange,
    choose_open_range,
    fit_outlyingness,
    outlying,
    prediction_sets,
)
from einthoven_conversion.verdict.collecting import Collected
from einthoven_conversion.verdict.forest import OCTAVES_OF_NAT, ForestRecipe, as_integers, grow, pack_forest

MAX_INCONCLUSIVE = 0.097
"""Share of records that may be left without a verdict, all reasons together: a tenth, and a little for chance."""
ALL_FOLDS = -1


@dataclass(frozen=True)
class Fitted:
    """Verdicts of one fold's tables.

    Attributes:
        tables: For records outside ``fold``; of ``ALL_FOLDS``, what ships.
        fold: Whose records took no part.
    """

    tables: VerdictTables
    fold: int


def untrained() -> VerdictTables:
    """Tables that hand the seconds' mean logits on and refuse nothing, until there are better ones."""
    nothing = Outlyingness(
        center=(0,) * FEATURES, scale=(1,) * FEATURES, directions="", k=0, limit=0, share_permille=0, n=0
    )
    return VerdictTables(
        schema=SCHEMA,
        features=FEATURES,
        base=(0, 0, 0, 0),
        pooled_permille=1000,
        trees=Trees(depth=1, count=0, features="", thresholds="", leaves=""),
        temperature=1.0,
        af_possible_permille=1001,
        af_certain_permille=1001,
        sets=PredictionSets(coverage_permille=0, least_permille=(1001,) * 4, n=(0,) * 4),
        outlyingness=nothing,
        metrics={},
        recipe={},
    )


def fit_all(recipe: ForestRecipe, clean: Collected, noisy: Sequence[Collected]) -> list[Fitted]:
    """Tables for every fold, and last those of all folds.

    Args:
        recipe: How forests are grown.
        clean: All records, out of fold.
        noisy: Copies of them with noise, out of fold too.

    Raises:
        TrainingFailed: Nothing but noise.
    """
    folds = sorted(set(clean.folds.tolist()))
    grown: dict[bytes, list[dict[str, object]]] = {}

    def forest_on(rows: NDArray[np.bool_]) -> list[dict[str, object]]:
        # Without folds 1 and 3 is without folds 3 and 1.
        key = rows.tobytes()
        if key not in grown:
            grown[key] = _grow(recipe, clean, noisy, rows)
        return grown[key]

    fitted = []
    for fold in (*folds, ALL_FOLDS):
        others = clean.folds != fold
        raw = np.zeros((len(clean.labels), CLASSES), np.int64)
        for part in _parts(clean.folds, others):
            forest = as_integers(forest_on(others & ~part), recipe.depth, 1.0)
            raw[part] = [run_forest(forest, row) for row in clean.features[part]]
        fitted.append(Fitted(_tables(recipe, forest_on(others), raw, clean, fold), fold))
    return fitted


def _parts(folds: NDArray[np.int64], others: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The records that tables may rest on, in parts that are left out in turn: folds, or halves of a single one."""
    left = np.unique(folds[others])
    if len(left) > 1:
        return [folds == one for one in left]
    half = np.cumsum(others) % 2 == 0
    return [others & half, others & ~half]


def _grow(
    recipe: ForestRecipe, clean: Collected, noisy: Sequence[Collected], rows: NDArray[np.bool_]
) -> list[dict[str, object]]:
    """A forest on some records and their noisy copies, which are in the same order."""
    parts = [clean, *noisy]
    features = np.concatenate([part.features[rows] for part in parts])
    labels = np.concatenate([part.labels[rows] for part in parts])
    weight = [1.0, *(recipe.noisy_weight for _ in noisy)]
    return grow(recipe, features, labels, np.repeat(weight, int(rows.sum())))


def _tables(
    recipe: ForestRecipe, structures: list[dict[str, object]], raw: NDArray[np.int64], clean: Collected, fold: int
) -> VerdictTables:
    """Calibrate one forest on the other folds' out-of-fold logits ``raw``, int64 [n, 4] without temperature."""
    others = clean.folds != fold
    temperature = fit_temperature(raw[others] / OCTAVES_OF_NAT, clean.labels[others])
    forest = as_integers(structures, recipe.depth, temperature)
    shares = shares_of(np.rint(raw[others] / temperature).astype(np.int64))
    labels = clean.labels[others]
    closed = (clean.gated[others] != InconclusiveReason.NONE) | (shares.argmax(axis=1) == Rhythm.NOISE)
    if closed.all():
        raise TrainingFailed("no record is left to fit a verdict on", "train on records that are not all noise")
    outlyingness = fit_outlyingness(clean.features[others][~closed])
    closed |= outlying(clean.features[others], outlyingness)
    opened: OpenRange = choose_open_range(shares, labels, closed, MAX_INCONCLUSIVE)
    return VerdictTables(
        schema=SCHEMA,
        features=FEATURES,
        base=(0, 0, 0, 0),
        pooled_permille=0,
        trees=pack_forest(forest),
        temperature=temperature,
        af_possible_permille=opened.possible_permille,
        af_certain_permille=opened.certain_permille,
        sets=prediction_sets(shares, labels),
        outlyingness=outlyingness,
        metrics={},
        recipe={"forest": recipe.as_json(), "coverage": COVERAGE, "max_inconclusive": MAX_INCONCLUSIVE},
    )


def shares_of(logits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Probabilities in 1/1000, int64 [n, 4], of logits in 1/1024 octave."""
    return np.array([permilles(row, 1, 1) for row in logits.tolist()], np.int64).reshape(-1, CLASSES)


@dataclass(frozen=True)
class Judged:
    """Verdicts on records, in their order.

    Attributes:
        shares: int64 [n, 4], probabilities in 1/1000.
        rhythms: int64 [n].
        reasons: int64 [n], ``InconclusiveReason``.
        in_set: bool [n, 4], the prediction sets.
        outlyingness: int64 [n].
    """

    shares: NDArray[np.int64]
    rhythms: NDArray[np.int64]
    reasons: NDArray[np.int64]
    in_set: NDArray[np.bool_]
    outlyingness: NDArray[np.int64]


def judge(fitted: Sequence[Fitted], rows: Collected) -> Judged:
    """Judge every record by the tables of its own fold; by the only ones there are, if there is one entry."""
    n = len(rows.labels)
    judged = Judged(
        np.zeros((n, CLASSES), np.int64),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
        np.zeros((n, CLASSES), np.bool_),
        np.zeros(n, np.int64),
    )
    verdicts = {one.fold: Verdict(one.tables) for one in fitted}
    only = next(iter(verdicts.values())) if len(verdicts) == 1 else None
    for i in range(n):
        verdict = only or verdicts[int(rows.folds[i])]
        opinion = verdict.opinion(rows.features[i], rows.means[i].tolist())
        reason = int(rows.gated[i])
        if reason in {InconclusiveReason.NONE, InconclusiveReason.RATE_OUT_OF_RANGE}:
            if opinion.rhythm is Rhythm.NOISE:
                reason = InconclusiveReason.POOR_SIGNAL
            elif reason == InconclusiveReason.NONE and opinion.out_of_distribution:
                reason = InconclusiveReason.OUT_OF_DISTRIBUTION
            elif reason == InconclusiveReason.NONE and opinion.af_open:
                reason = InconclusiveReason.LOW_CONFIDENCE
        judged.shares[i], judged.rhythms[i], judged.reasons[i] = opinion.permilles, opinion.rhythm, reason
        judged.in_set[i, list(opinion.prediction_set)] = True
        judged.outlyingness[i] = opinion.outlyingness
    return judged
