"""The whole way from recordings to a shipped model: five folds for the figures, then one model on all of them.

1. ``datasets`` reads, ``windows`` conditions and caches.
2. ``workers`` trains one network a fold and one on everything.
3. ``quantize`` converts each; ``scoring`` scores every fold's int8 model on the records it never saw.
4. ``temperature`` fits probability and threshold on those out-of-fold logits.
5. ``manifests`` and ``card`` write the shipped model.

Invariants:
    1. Every figure in the manifest is of int8 models on records they were not trained on.
    2. Nothing is written to the output folder before everything is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.analysis import LOGIT_UNITY
from einthoven.frontend import FrontEnd
from einthoven.models import Model
from einthoven.probability import permilles
from einthoven.resampling import MODEL_RATE_HZ, FrontEndCoefficients, ResamplerTable
from einthoven.results import InconclusiveReason
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.card import render_card
from einthoven_conversion.datasets import Record, open_dataset, read_signals
from einthoven_conversion.errors import DatasetCorrupt
from einthoven_conversion.evaluate import class_table, figures
from einthoven_conversion.filter_design import design
from einthoven_conversion.manifests import describe, with_manifest, with_probability, write_model
from einthoven_conversion.recipe import Recipe
from einthoven_conversion.scoring import Scores, join_scores, score_records
from einthoven_conversion.temperature import fit_temperature, low_confidence_permille, octave_ratio
from einthoven_conversion.training_records import record_ids_digest
from einthoven_conversion.workers import ALL_FOLDS, Job, prepare_tensorflow, train_all

if TYPE_CHECKING:
    from einthoven_conversion.architecture import Weights

MAX_INCONCLUSIVE = 0.10
"""Share of records that the low-confidence threshold may leave without a verdict, all reasons together."""
Report = Callable[[str], None]


@dataclass(frozen=True)
class CrossValidation:
    """What the folds' int8 models said of the records they never saw.

    Attributes:
        scores: Over all records, with calibrated confidence.
        float_rhythms: int64 [n], the float twins' classes.
        temperature: Fitted on these scores.
        threshold_permille: Chosen on these scores.
    """

    scores: Scores
    float_rhythms: NDArray[np.int64]
    temperature: float
    threshold_permille: int


def make_jobs(root: Path, dataset: str, work: Path, recipe: Recipe, *, everything: bool) -> list[Job]:
    """One job a fold, and one on all records if asked for.

    Raises:
        DatasetNotFound: There is no such folder.
        DatasetCorrupt: Its index has no folds.
    """
    folder, records = open_dataset(root, dataset)
    folds = sorted({record.fold for record in records if record.fold is not None})
    if len(folds) < 2 or any(record.fold is None for record in records):
        raise DatasetCorrupt(f"{folder} has no folds for cross-validation", "train on the training set")
    coefficients = design()
    held_out = [*folds, ALL_FOLDS] if everything else folds
    return [Job(recipe, root, folder, tuple(records), coefficients, fold, work) for fold in held_out]


def cross_validate(jobs: Sequence[Job], weights: Sequence[Weights], report: Report) -> CrossValidation:
    """Convert every fold's network and score it on the fold it never saw."""
    from einthoven_conversion.float_twin import float_logits

    parts: list[tuple[NDArray[np.int64], Scores]] = []
    scales: list[tuple[NDArray[np.int64], float]] = []
    records = jobs[0].records
    float_rhythms = np.zeros(len(records), np.int64)
    for job, fold_weights in zip(jobs, weights, strict=True):
        positions = np.array([i for i, record in enumerate(records) if record.fold == job.held_out])
        unseen = [records[i] for i in positions]
        model = to_int8(job, fold_weights)
        scores = score_records(model, LiteRtRunner(model), job.folder, unseen)
        parts.append((positions, scores))
        scales.append((positions, model.manifest.outputs[0].scale))
        twin = float_logits(fold_weights, job.recipe, model, job.folder, unseen)
        float_rhythms[positions] = twin.argmax(axis=1)
        report(f"fold {job.held_out}: F1 of N, A, O {class_table(scores)['nao']:.4f} in int8, n = {len(unseen)}")
    return _calibrate(join_scores(parts, len(records)), scales, float_rhythms)


def _calibrate(
    scores: Scores, scales: Sequence[tuple[NDArray[np.int64], float]], float_rhythms: NDArray[np.int64]
) -> CrossValidation:
    """Fit temperature and threshold, and say what confidence and reason each record gets with them."""
    logits = np.zeros(scores.logits.shape)
    for positions, scale in scales:
        logits[positions] = scores.logits[positions] * (scale / LOGIT_UNITY)
    temperature = fit_temperature(logits, scores.labels)
    confidences = np.zeros(len(scores.labels), np.int64)
    for positions, scale in scales:
        ratio = octave_ratio(scale, temperature)
        for i in positions:
            shares = permilles(scores.logits[i].tolist(), ratio.numerator, ratio.denominator)
            confidences[i] = shares[scores.rhythms[i]]
    threshold = low_confidence_permille(confidences, ~scores.conclusive, MAX_INCONCLUSIVE)
    low = scores.conclusive & (confidences < threshold)
    reasons = np.where(low, int(InconclusiveReason.LOW_CONFIDENCE), scores.reasons)
    calibrated = replace(scores, confidences=confidences, reasons=reasons)
    return CrossValidation(calibrated, float_rhythms, temperature, threshold)


def to_int8(job: Job, weights: Weights) -> Model:
    """Convert one network with representative windows from the records it was trained on."""
    from einthoven_conversion.quantize import channel_ranges, convert, fold, rescale

    recipe = job.recipe
    rng = np.random.default_rng(recipe.seed)
    positions = job.positions
    chosen = sorted(rng.choice(positions, size=min(recipe.representative_windows, len(positions)), replace=False))
    windows = representative_windows(job.folder, [job.records[i] for i in chosen], job.coefficients)
    network = fold(weights, recipe)
    ranges = channel_ranges(network, windows, recipe.range_percentile)
    content = convert(rescale(network, ranges, recipe.equalization), windows)
    return describe(content, recipe, job.coefficients)


def representative_windows(
    folder: Path, records: Sequence[Record], coefficients: FrontEndCoefficients
) -> list[NDArray[np.int8]]:
    """The device's int8 seconds [k, 128] of whole records."""
    windows = []
    for position, samples_uv in read_signals(folder, records):
        steps = FrontEnd(ResamplerTable(coefficients, records[position].sampling_rate_hz)).push(samples_uv)
        windows.append(steps.reshape(-1, MODEL_RATE_HZ))
    return windows


def train_and_ship(
    root: Path, dataset: str, output: Path, work: Path, recipe: Recipe, workers: int, report: Report
) -> Model:
    """Everything; see the module's docstring.

    Args:
        root: Folder of data sets.
        dataset: Which one.
        output: Where the model goes.
        work: Where caches and finished trainings are kept.
        recipe: How to train.
        workers: Trainings at a time.
        report: Takes progress, a line each.

    Raises:
        ConversionError: In one of its kinds.
    """
    jobs = make_jobs(root, dataset, work, recipe, everything=True)
    work.mkdir(parents=True, exist_ok=True)
    prepare_tensorflow()
    report(f"{len(jobs)} trainings on {len(jobs[0].records)} records, {workers} at a time")
    weights = train_all(jobs, workers, report)
    validation = cross_validate(jobs[:-1], weights[:-1], report)
    model = to_int8(jobs[-1], weights[-1])
    n = len(validation.scores.labels)
    ratio = octave_ratio(model.manifest.outputs[0].scale, validation.temperature)
    model = with_probability(model, ratio, validation.temperature, validation.threshold_permille, n)
    document = folds_report(dataset, validation, len(jobs) - 1)
    trained_on = {"n": n, "record_ids_sha256": record_ids_digest(jobs[0].records)}
    model = with_manifest(
        model, metrics=document, recipe={**model.manifest.recipe, "dataset": dataset, "records": trained_on}
    )
    write_model(model, render_card(model), document, output)
    return model


def validate_folds(
    root: Path, dataset: str, work: Path, recipe: Recipe, workers: int, report: Report
) -> dict[str, Any]:
    """Train the folds that are not finished, score them all, and report.

    Raises:
        ConversionError: In one of its kinds.
    """
    jobs = make_jobs(root, dataset, work, recipe, everything=False)
    work.mkdir(parents=True, exist_ok=True)
    prepare_tensorflow()
    weights = train_all(jobs, workers, report)
    return folds_report(dataset, cross_validate(jobs, weights, report), len(jobs))


def folds_report(dataset: str, validation: CrossValidation, folds: int) -> dict[str, Any]:
    """The cross-validated figures as one document."""
    return {
        "command": f"einthoven-convert train --dataset {dataset}",
        "protocol": f"{folds}-fold cross-validation; int8 models on records they were not trained on, through the SDK",
        "n": len(validation.scores.labels),
        "figures": figures(dataset, validation.scores, float_rhythms=validation.float_rhythms),
        "classes": class_table(validation.scores),
        "temperature": validation.temperature,
        "low_confidence_permille": validation.threshold_permille,
    }
