"""Fitting a verdict: integer trees are LightGBM's, thresholds the best there are, and no fold sees its own labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("lightgbm", reason="needs LightGBM (extra 'conversion')")

from einthoven.models import load_model
from einthoven.results import InconclusiveReason, Rhythm
from einthoven.runner_litert import LiteRtRunner
from einthoven.verdict import Verdict, run_forest
from einthoven.verdict_tables import CLASSES, read_tables, unpack_forest
from einthoven.window_features import FEATURES
from einthoven_conversion.datasets import open_dataset
from einthoven_conversion.errors import TrainingFailed
from einthoven_conversion.scoring import score_records, scores_of
from einthoven_conversion.verdict.calibrating import (
    COVERAGE,
    EVEN_PERMILLE,
    IN_DISTRIBUTION,
    WANTED_SENSITIVITY,
    WANTED_SPECIFICITY,
    choose_open_range,
    covered,
    fit_outlyingness,
    prediction_sets,
)
from einthoven_conversion.verdict.collecting import Collected, collect
from einthoven_conversion.verdict.cross_fitting import ALL_FOLDS, Fitted, fit_all, judge, shares_of, untrained
from einthoven_conversion.verdict.forest import OCTAVES_OF_NAT, ForestRecipe, as_integers, grow, pack_forest

SMALL = ForestRecipe(rounds=6, least_records=5, feature_share=1.0)
NONE = int(InconclusiveReason.NONE)


def rows(n: int, seed: int = 0, folds: int = 5) -> Collected:
    """Records whose first features tell their class, mostly."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n, p=[0.5, 0.2, 0.2, 0.1])
    features = rng.integers(-300, 300, (n, FEATURES))
    features[np.arange(n), labels] += rng.integers(-100, 600, n)
    gated = np.where(rng.random(n) < 0.02, int(InconclusiveReason.POOR_SIGNAL), NONE)
    other = rng.integers(0, 100, (n, 4))
    return Collected(
        labels=labels.astype(np.int64),
        folds=np.arange(n) % folds,
        features=features,
        means=other * 10,
        gated=gated.astype(np.int64),
        usable_permille=other[:, 0],
        rate_bpm=other[:, 1],
        seconds=np.full(n, 30),
        inverted=np.zeros(n, np.int64),
    )


# --- trees


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_integer_trees_are_the_floats_within_rounding(depth: int) -> None:
    """The oracle is LightGBM's own raw prediction of the same trees."""
    import lightgbm

    known, unseen = rows(400), rows(200, seed=1)
    recipe = replace(SMALL, rounds=20, depth=depth, record_share=0.7)
    structures = grow(recipe, known.features, known.labels, np.ones(400))
    forest = as_integers(structures, depth, 1.0)
    parameters = {
        "objective": "multiclass", "num_class": CLASSES, "learning_rate": recipe.learning_rate, "max_depth": depth,
        "num_leaves": 2**depth, "min_child_samples": recipe.least_records, "bagging_fraction": recipe.record_share,
        "bagging_freq": 1, "feature_fraction": recipe.feature_share, "lambda_l2": recipe.leaf_penalty,
        "seed": recipe.seed, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    oracle = lightgbm.train(parameters, lightgbm.Dataset(known.features.astype(float), known.labels), recipe.rounds)
    for part in (known, unseen):
        wanted = oracle.predict(part.features.astype(float), raw_score=True) * OCTAVES_OF_NAT
        found = np.array([run_forest(forest, row) for row in part.features])
        # Half a unit a tree at most; twenty trees a class.
        assert np.abs(found - wanted).max() <= recipe.rounds / 2


def test_the_temperature_divides_the_leaves() -> None:
    known = rows(300)
    structures = grow(SMALL, known.features, known.labels, np.ones(300))
    plain, soft = as_integers(structures, SMALL.depth, 1.0), as_integers(structures, SMALL.depth, 2.0)
    assert np.abs(2 * soft.leaves - plain.leaves).max() <= 2
    np.testing.assert_array_equal(plain.thresholds, soft.thresholds)


def test_too_few_records_are_trees_of_one_leaf() -> None:
    known = rows(8)
    forest = as_integers(grow(SMALL, known.features, known.labels, np.ones(8)), SMALL.depth, 1.0)
    assert (forest.leaves == forest.leaves[:, :1]).all()


def test_a_forest_ships_as_it_is() -> None:
    known = rows(300)
    forest = as_integers(grow(SMALL, known.features, known.labels, np.ones(300)), SMALL.depth, 1.0)
    shipped = unpack_forest(pack_forest(forest))
    for name in ("features", "thresholds", "leaves"):
        np.testing.assert_array_equal(getattr(shipped, name), getattr(forest, name))


def test_the_same_seed_grows_the_same_trees_and_weights_matter() -> None:
    known = rows(200)
    weights = np.where(known.labels == 1, 5.0, 1.0)
    first, again = (grow(SMALL, known.features, known.labels, np.ones(200)) for _ in range(2))
    assert first == again
    assert first != grow(SMALL, known.features, known.labels, weights)


# --- prediction sets


@pytest.mark.parametrize("seed", range(3))
def test_sets_cover_as_often_as_stated(seed: int) -> None:
    """Exchangeable records: each class is covered within its binomial noise (four standard deviations, and ties)."""
    rng = np.random.default_rng(seed)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.choice(CLASSES, n, p=[0.6, 0.1, 0.25, 0.05])
        logits = np.rint(rng.normal(0, 900, (n, CLASSES))).astype(np.int64)
        logits[np.arange(n), labels] += rng.integers(0, 2_500, n)
        return shares_of(logits), labels

    shares, labels = draw(8_000)
    sets = prediction_sets(shares, labels)
    assert sets.n == tuple(int((labels == label).sum()) for label in range(CLASSES))
    unseen, wanted = draw(20_000)
    hit = unseen[np.arange(len(wanted)), wanted] >= np.array(sets.least_permille)[wanted]
    for label in range(CLASSES):
        m, n = int((wanted == label).sum()), sets.n[label]
        noise = 4 * np.sqrt(COVERAGE * (1 - COVERAGE) * (1 / m + 1 / n))
        assert abs(hit[wanted == label].mean() - COVERAGE) < noise + 0.01
    assert (covered(unseen, wanted, sets) >= hit).all()


def test_the_threshold_is_the_rank_of_the_paper() -> None:
    """99 records, nominal 0.95: the fifth smallest, so that at most 4 of the 99 are left out."""
    shares = np.zeros((99, CLASSES), np.int64)
    shares[:, 0] = np.arange(1, 100)
    sets = prediction_sets(shares, np.zeros(99, np.int64))
    assert sets.least_permille == (5, 0, 0, 0)
    assert (shares[:, 0] >= 5).sum() == 95
    assert prediction_sets(shares[:18], np.zeros(18, np.int64)).least_permille[0] == 0
    assert prediction_sets(shares[:19], np.zeros(19, np.int64)).least_permille[0] == 1


def test_the_most_likely_class_is_always_covered() -> None:
    shares = np.array([[400, 300, 200, 100], [300, 400, 200, 100]])
    sets = msgspec.structs.replace(prediction_sets(shares, np.array([0, 0])), least_permille=(1001,) * 4)
    assert covered(shares, np.array([0, 0]), sets).tolist() == [True, False]


# --- when AF is open


def worst_of(shares: np.ndarray, labels: np.ndarray, closed: np.ndarray, low: int, high: int) -> float:
    """How far a range stays from what is wanted."""
    af = shares[:, Rhythm.AF]
    kept = ~closed & (labels != Rhythm.NOISE) & ((af < low) | (af >= high))
    is_af = labels == Rhythm.AF
    sensitivity = (kept & is_af & (af >= high)).sum() / max((kept & is_af).sum(), 1)
    specificity = (kept & ~is_af & (af < low)).sum() / max((kept & ~is_af).sum(), 1)
    return float(min(sensitivity - WANTED_SENSITIVITY, specificity - WANTED_SPECIFICITY))


@pytest.mark.parametrize("seed", range(6))
def test_no_other_range_of_that_size_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 80
    labels = rng.choice(CLASSES, n, p=[0.5, 0.3, 0.15, 0.05])
    af = np.clip(np.where(labels == Rhythm.AF, rng.normal(750, 250, n), rng.normal(200, 220, n)), 0, 1000).astype(int)
    shares = np.stack([1000 - af, af, np.zeros(n, int), np.zeros(n, int)], axis=1)
    closed = rng.random(n) < 0.05
    chosen = choose_open_range(shares, labels, closed, 0.2)
    low, high = chosen.possible_permille, chosen.certain_permille
    assert low <= high
    spare = int(0.2 * n) - int(closed.sum())
    kept_af = af[~closed]
    assert ((kept_af >= low) & (kept_af < high)).sum() <= spare
    best = -np.inf
    for candidate in [*sorted({int(one) for one in kept_af if one < EVEN_PERMILLE}), EVEN_PERMILLE]:
        # As much as there is to spare: up to the record after that many.
        edge = [*np.sort(kept_af).tolist(), *[1001] * (spare + 1)][int((kept_af < candidate).sum()) + spare]
        if edge >= EVEN_PERMILLE:
            best = max(best, worst_of(shares, labels, closed, candidate, edge))
    assert low <= EVEN_PERMILLE <= high
    assert worst_of(shares, labels, closed, low, high) == pytest.approx(best)


def test_nothing_to_spare_opens_nothing() -> None:
    shares = np.array([[900, 100, 0, 0], [100, 900, 0, 0]] * 10)
    labels = np.array([0, 1] * 10)
    for closed in (np.zeros(20, bool), np.ones(20, bool)):
        chosen = choose_open_range(shares, labels, closed, 0.0)
        assert chosen.possible_permille <= EVEN_PERMILLE <= chosen.certain_permille
        af = shares[~closed, Rhythm.AF]
        assert not ((af >= chosen.possible_permille) & (af < chosen.certain_permille)).any()


# --- what was never seen


def test_the_limit_keeps_its_share_of_the_training_rows_and_flags_far_ones() -> None:
    known = rows(2_000)
    tables = msgspec.structs.replace(untrained(), outlyingness=fit_outlyingness(known.features))
    verdict = Verdict(read_tables(msgspec.json.encode(tables)))
    out = [verdict.opinion(row, [0, 0, 0, 0]).out_of_distribution for row in known.features]
    assert 0 < 1 - np.mean(out) - IN_DISTRIBUTION + 1e-9 < 0.002
    far = known.features[:50] + 4_000 * np.random.default_rng(2).choice([-1, 1], (50, FEATURES))
    assert all(verdict.opinion(row, [0, 0, 0, 0]).out_of_distribution for row in far)
    unseen = rows(1_000, seed=3).features
    assert np.mean([verdict.opinion(row, [0, 0, 0, 0]).out_of_distribution for row in unseen]) < 0.03


def test_features_that_never_vary_do_no_harm() -> None:
    features = rows(500).features
    features[:, 5] = 7
    features[:, 6] = 0
    entry = fit_outlyingness(features)
    assert entry.scale[5] == entry.scale[6] == 1
    assert entry.center[5] == 7
    assert entry.n == 500


# --- across folds


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_a_folds_labels_change_nothing_in_its_own_tables(folds: int) -> None:
    clean = rows(240, folds=folds)
    noisy = [rows(240, seed=7, folds=folds)]
    noisy = [replace(noisy[0], labels=clean.labels)]
    rng = np.random.default_rng(9)
    own = clean.folds == 1
    labels, features, gated = clean.labels.copy(), clean.features.copy(), clean.gated.copy()
    labels[own] = rng.permutation(labels[own])
    features[own] = rng.permutation(features[own]) // 2
    gated[own] = np.roll(gated[own], 1)
    other = replace(clean, labels=labels, features=features, gated=gated)
    before = {one.fold: one.tables for one in fit_all(SMALL, clean, noisy)}
    after = {one.fold: one.tables for one in fit_all(SMALL, other, [replace(noisy[0], labels=labels)])}
    assert list(before) == [*range(folds), ALL_FOLDS]
    assert before[1] == after[1]
    assert before[0] != after[0]
    assert before[ALL_FOLDS] != after[ALL_FOLDS]


def test_verdicts_are_by_the_tables_of_ones_own_fold() -> None:
    clean = rows(600)
    fitted = fit_all(replace(SMALL, rounds=40), clean, [])
    judged = judge(fitted[:-1], clean)
    for i in (0, 1, 7, 299):
        opinion = Verdict(fitted[i % 5].tables).opinion(clean.features[i], clean.means[i].tolist())
        assert judged.shares[i].tolist() == list(opinion.permilles)
        assert judged.rhythms[i] == opinion.rhythm
        assert set(np.flatnonzero(judged.in_set[i])) == set(opinion.prediction_set)
    gate = clean.gated != NONE
    assert (judged.reasons[gate] == clean.gated[gate]).all()
    assert (judged.rhythms == clean.labels).mean() > 0.6
    assert 0.05 < (judged.reasons != NONE).mean() < 0.4
    scores = scores_of(clean, judged)
    np.testing.assert_array_equal(scores.conclusive, judged.reasons == NONE)


def test_nothing_but_noise_is_one_line() -> None:
    clean = rows(100)
    clean.gated[:] = int(InconclusiveReason.POOR_SIGNAL)
    with pytest.raises(TrainingFailed, match="no record is left"):
        fit_all(SMALL, clean, [])


def test_noise_is_said_before_anything_that_tables_say() -> None:
    tables = msgspec.structs.replace(untrained(), base=(0, 0, 0, 9_000))
    some = rows(40)
    judged = judge([Fitted(tables, ALL_FOLDS)], some)
    free = some.gated == NONE
    assert (judged.reasons[free] == int(InconclusiveReason.POOR_SIGNAL)).all()


# --- what is collected


def test_what_is_collected_is_what_a_device_judges(make_dataset: Callable[..., Path]) -> None:
    """Judging what was collected by the shipped tables is scoring the records with the shipped model."""
    folder, records = open_dataset(make_dataset(8), "cinc2017")
    model = load_model()
    runner = LiteRtRunner(model)
    found = collect(model, runner, folder, records)
    assert found.labels.tolist() == [record.label for record in records]
    assert found.folds.tolist() == [record.fold for record in records]
    assert (found.seconds >= 10).all()
    assert found.features.shape == (8, FEATURES)
    scores = score_records(model, runner, folder, records)
    judged = judge([Fitted(model.verdict.tables, ALL_FOLDS)], found)
    np.testing.assert_array_equal(judged.reasons, scores.reasons)
    np.testing.assert_array_equal(judged.shares, scores.shares)
    np.testing.assert_array_equal(judged.in_set, scores.in_set)
    np.testing.assert_array_equal(found.usable_permille, scores.usable_permille)


def test_a_record_that_is_altered_is_another(make_dataset: Callable[..., Path]) -> None:
    folder, records = open_dataset(make_dataset(4), "cinc2017")
    model = load_model()
    runner = LiteRtRunner(model)
    flat = collect(model, runner, folder, records, lambda _, samples: np.zeros_like(samples))
    assert (flat.gated == int(InconclusiveReason.POOR_SIGNAL)).all()
    assert (flat.rate_bpm == 0).all()
    turned = collect(model, runner, folder, records[:2], lambda _, samples: -samples)
    upright = collect(model, runner, folder, records[:2])
    assert (turned.inverted != upright.inverted).all()


def test_untrained_tables_hand_the_logits_on() -> None:
    verdict = Verdict(untrained())
    opinion = verdict.opinion(np.zeros(FEATURES, np.int64), [5, -6, 7, 8])
    assert opinion.logits == (5, -6, 7, 8)
    assert not opinion.af_open
    assert not opinion.out_of_distribution
    assert opinion.prediction_set == (Rhythm.NOISE,)
