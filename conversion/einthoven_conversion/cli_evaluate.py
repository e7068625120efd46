"""`einthoven-convert evaluate`: the shipped model, or each fold's own, on recordings; as a table or as JSON.

It deliberately measures nothing itself (``evaluate``, ``scoring``, ``pipeline`` and ``beat_classes`` do), and needs no
TensorFlow but for ``--cross-validation``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from einthoven.model_signature import TrustedKey
from einthoven.models import load_model
from einthoven.native_stderr import native_stderr_silenced
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.cli_signing import TrustedKeys, trusted
from einthoven_conversion.datasets import LABELS, open_dataset
from einthoven_conversion.errors import DependencyMissing, OptionRefused
from einthoven_conversion.evaluate import class_table, figures, machine, noise_figures
from einthoven_conversion.noisy_records import TEST_PIECES, electrode_motion
from einthoven_conversion.recipe import RHYTHM_RECIPE
from einthoven_conversion.scoring import score_records
from einthoven_conversion.training_records import record_ids_digest

DEFAULT_DATA = Path("../shared/data")
DEFAULT_WORK = Path(".cache/einthoven-convert")
BEATS_DATASET = "mitdb"
Classes = dict[str, Any] | None

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


def evaluate(
    data: Annotated[
        Path, typer.Option("--data", help="Folder of data sets (its README gives the layout).")
    ] = DEFAULT_DATA,
    dataset: Annotated[str, typer.Option(help="Which data set: cinc2017 for rhythms, mitdb for beats.")] = "cinc2017",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    noise: Annotated[
        list[int] | None,
        typer.Option(min=-20, max=60, help="Signal-to-noise ratio in dB; electrode motion is added. More than once."),
    ] = None,
    model_folder: Annotated[
        Path | None,
        typer.Option(
            "--model", help="Folder with rhythm.tflite and what belongs to it; the shipped one, if not given."
        ),
    ] = None,
    trusted_key: TrustedKeys = None,
    cross_validation: Annotated[
        bool, typer.Option(help="Score each fold's model on its own fold instead; trains what is missing in --work.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Where caches and finished trainings are kept.")] = DEFAULT_WORK,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Trainings at a time; one thread each.")] = os.cpu_count()
    or 1,
) -> None:
    """Score the shipped int8 model through the SDK's own path, on any folder in the layout of --data."""
    classes: Classes = None
    if dataset == BEATS_DATASET:
        if noise or model_folder:
            raise OptionRefused("--noise and --model are for rhythms", "leave them out for mitdb")
        found = _beats(data, dataset, cross_validation=cross_validation)
    elif cross_validation:
        report = training_half().validate_folds(data, dataset, work, RHYTHM_RECIPE, workers, _err.print)
        found, classes = report["figures"] + _tables(report), report["classes"]
    else:
        found, classes = _rhythms(data, dataset, noise or [], model_folder, trusted(trusted_key))
    if as_json:
        sys.stdout.write(json.dumps({"machine": machine(), "figures": found}, ensure_ascii=False) + "\n")
        return
    print_figures(found)
    if classes is not None:
        _print_classes(classes)


def _tables(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Figures under noise, and of subgroups: what the report has beside the headline."""
    headline = {figure["id"] for figure in report["figures"]}
    beside = [figure for table in report["tables"].values() for figure in table["figures"]]
    return [figure for figure in beside if "slice" not in figure and figure["id"] not in headline]


def _beats(data: Path, dataset: str, *, cross_validation: bool) -> list[dict[str, Any]]:
    from einthoven_conversion.beat_classes.scoring import cross_validated_figures, score_mitdb

    return list(cross_validated_figures(data, dataset) if cross_validation else score_mitdb(data, dataset))


def _rhythms(
    data: Path,
    dataset: str,
    noise: list[int],
    model_folder: Path | None,
    trusted_keys: tuple[TrustedKey, ...],
) -> tuple[list[dict[str, Any]], Classes]:
    folder, records = open_dataset(data, dataset)
    model = load_model("rhythm", model_folder, trusted_keys=trusted_keys)
    with native_stderr_silenced():
        runner = LiteRtRunner(model)

    def report(done: int, total: int) -> None:
        _err.print(f"{done} of {total} records", end="\r")

    # Before the minutes of scoring: without noise there is nothing to add.
    alters = {level: electrode_motion(data, records, model.coefficients, TEST_PIECES, level) for level in noise}
    scores = score_records(model, runner, folder, records, report)
    noisy = {level: score_records(model, runner, folder, records, report, alter) for level, alter in alters.items()}
    seen = model.manifest.recipe.get("records", {}).get("record_ids_sha256") == record_ids_digest(records)
    note = "the model was trained on these very records; see the cross-validated figures in its card" if seen else ""
    return figures(dataset, scores, note=note) + noise_figures(dataset, scores, noisy, note), class_table(scores)


def training_half() -> Any:
    """The training half, which needs the ``conversion`` extra."""
    for module, package in (("tensorflow", "TensorFlow"), ("scipy", "SciPy")):
        if importlib.util.find_spec(module) is None:
            raise DependencyMissing(f"{package} is not installed", "pip install 'einthoven[conversion]'")
    from einthoven_conversion import pipeline

    return pipeline


def print_figures(found: list[dict[str, Any]]) -> None:
    """Figures as a table, and below it what each of them is."""
    table = Table(Column("figure", no_wrap=True), "value", Column("95 % interval", no_wrap=True), "n")
    for figure in found:
        low, high = figure["spread"]
        table.add_row(figure["id"], f"{figure['value']:.4f}", f"{low:.4f} to {high:.4f}", str(figure["n"]))
    _out.print(table)
    for figure in found:
        _out.print(f"{figure['id'].rsplit('.', 1)[-1]}: {figure['note']}", markup=False, soft_wrap=True)


def _print_classes(classes: dict[str, Any]) -> None:
    table = Table("class", "n", "F1", "95 % interval", "sensitivity", "no verdict")
    for label in LABELS:
        row = classes[label]
        low, high = row["interval"]
        cells = (
            f"{row['f1']:.4f}",
            f"{low:.4f} to {high:.4f}",
            f"{row['sensitivity']:.4f}",
            f"{row['inconclusive']:.4f}",
        )
        table.add_row(label, str(row["n"]), *cells)
    _out.print(table)
