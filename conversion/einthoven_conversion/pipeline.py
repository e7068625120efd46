"""The whole way from recordings to a shipped model: five folds for the figures, then one model on all of them.

1. ``datasets`` reads, ``windows`` conditions and caches.
2. ``workers`` trains one network a fold and one on everything; ``train`` and ``prune`` are what it does.
3. ``quantize`` converts each; ``validation`` has every fold's int8 model describe the records it never saw, clean and
   under noise.
4. ``verdict`` grows and calibrates the verdict's trees on those descriptions, across the folds.
5. ``evaluate`` makes figures of the cross-fitted verdicts, ``manifests`` and ``card`` write the shipped model.

Invariants:
    1. Every figure in the manifest is of int8 models and verdicts on records that neither was fitted to.
    2. Nothing is written to the output folder before everything is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven.frontend import FrontEnd
from einthoven.models import Model
from einthoven.resampling import MODEL_RATE_HZ, FrontEndCoefficients, ResamplerTable
from einthoven.verdict_tables import VerdictTables
from einthoven_conversion.card import render_card
from einthoven_conversion.datasets import Record, find_folder, open_dataset, read_signals
from einthoven_conversion.errors import DatasetCorrupt
from einthoven_conversion.evaluate import class_table, figures, noise_figures, subgroup_table
from einthoven_conversion.filter_design import design
from einthoven_conversion.manifests import describe, with_manifest, with_verdict, write_model
from einthoven_conversion.recipe import Recipe
from einthoven_conversion.scoring import Scores, scores_of
from einthoven_conversion.training_records import record_ids_digest
from einthoven_conversion.validation import NOISE_LEVELS_DB, Described, describe_unseen, join
from einthoven_conversion.verdict.cross_fitting import Fitted, fit_all, judge
from einthoven_conversion.verdict.forest import ForestRecipe
from einthoven_conversion.workers import ALL_FOLDS, Job, prepare_tensorflow, train_all

if TYPE_CHECKING:
    from einthoven_conversion.architecture import Weights

Report = Callable[[str], None]


@dataclass(frozen=True)
class CrossValidation:
    """What the folds' models and verdicts said of the records that they never saw.

    Attributes:
        scores: Over all records.
        float_rhythms: int64 [n], the classes with the float twins' logits.
        noisy: Scores of the same records under noise, by signal-to-noise ratio in dB; empty where there is no noise.
        tables: What ships: fitted on all records' out-of-fold descriptions.
    """

    scores: Scores
    float_rhythms: NDArray[np.int64]
    noisy: dict[int, Scores]
    tables: VerdictTables


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


def cross_validate(jobs: Sequence[Job], weights: Sequence[Weights], workers: int, report: Report) -> CrossValidation:
    """Convert every fold's network, see what it says of its own fold, and cross-fit the verdicts.

    Args:
        jobs: One a fold.
        weights: Of each.
        workers: Processes at a time.
        report: Takes progress, a line each.
    """
    models = []
    for job, fold_weights in zip(jobs, weights, strict=True):
        models.append(to_int8(job, fold_weights))
        report(f"fold {job.held_out}: {len(models[-1].content)} B in int8")
    parts = describe_unseen(jobs, models, weights, workers, report)
    described = join(jobs, parts)
    fitted = fit_all(ForestRecipe(), described.clean, described.training_noise)
    report(f"{len(fitted)} verdicts fitted")
    return _scored(described, fitted)


def _scored(described: Described, fitted: Sequence[Fitted]) -> CrossValidation:
    folds, shipped = fitted[:-1], fitted[-1]
    return CrossValidation(
        scores=scores_of(described.clean, judge(folds, described.clean)),
        float_rhythms=judge(folds, described.float_twin).rhythms,
        noisy={snr: scores_of(rows, judge(folds, rows)) for snr, rows in described.noisy.items()},
        tables=shipped.tables,
    )


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
    validation = cross_validate(jobs[:-1], weights[:-1], workers, report)
    document = folds_report(dataset, validation, len(jobs) - 1)
    tables = msgspec.structs.replace(validation.tables, metrics=_counts(document))
    model, content = with_verdict(to_int8(jobs[-1], weights[-1]), tables)
    trained_on = {"n": len(jobs[0].records), "record_ids_sha256": record_ids_digest(jobs[0].records)}
    model = with_manifest(
        model,
        metrics=document,
        recipe={**model.manifest.recipe, **tables.recipe, "dataset": dataset, "records": trained_on},
    )
    write_model(model, render_card(model), document, output, {"verdict.json": content})
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
    return folds_report(dataset, cross_validate(jobs, weights, workers, report), len(jobs))


def noise_available(root: Path) -> bool:
    """Whether figures under noise can be measured."""
    return find_folder(root, "nstdb_noise") is not None


def folds_report(dataset: str, validation: CrossValidation, folds: int) -> dict[str, Any]:
    """The cross-validated figures as one document."""
    scores, tables = validation.scores, validation.tables
    parts: dict[str, Any] = {"subgroups": subgroup_table(dataset, scores)}
    found = figures(dataset, scores, float_rhythms=validation.float_rhythms)
    if validation.noisy:
        note = "electrode motion of the Noise Stress Test Database, a stretch that no training saw"
        noise = noise_figures(dataset, scores, validation.noisy, note)
        found += [figure for figure in noise if figure["id"].endswith("auc_loss_em_6db")]
        levels = ", ".join(f"{level}" for level in NOISE_LEVELS_DB)
        parts["noise"] = {"title": "Under noise", "text": f"At {levels} dB.", "figures": noise}
    return {
        "command": f"einthoven-convert train --dataset {dataset}",
        "protocol": f"{folds}-fold cross-validation; int8 models and verdicts on records that neither was fitted to, "
        "through the SDK",
        "n": len(scores.labels),
        "figures": found,
        "classes": class_table(scores),
        "tables": parts,
        "temperature": tables.temperature,
        "af_possible_permille": tables.af_possible_permille,
        "af_certain_permille": tables.af_certain_permille,
    }


def _counts(document: dict[str, Any]) -> dict[str, Any]:
    """What ``verdict.json`` says of its own figures: where they are."""
    return {"n": document["n"], "figures": "in the manifest beside it"}
