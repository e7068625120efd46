"""The `einthoven-convert` command: train, evaluate.

It deliberately decides nothing: ``pipeline`` trains, ``scoring`` and ``evaluate`` measure. ``evaluate`` needs no
TensorFlow. With ``--json`` standard output holds one JSON document and nothing else.

Exit status: 0 done; 2-4 as in ``einthoven_conversion.errors``; the SDK's own errors have theirs; 1 anything unforeseen.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
    from rich.table import Column, Table
except ImportError:
    sys.exit("einthoven-convert: the command needs two more packages; run: pip install 'einthoven[cli]'")

from einthoven.errors import EinthovenError
from einthoven.models import load_model
from einthoven.native_stderr import native_stderr_silenced
from einthoven.runner_litert import LiteRtRunner
from einthoven_conversion.datasets import open_dataset
from einthoven_conversion.errors import ConversionError, DependencyMissing
from einthoven_conversion.evaluate import class_table, figures, machine
from einthoven_conversion.recipe import Recipe
from einthoven_conversion.scoring import score_records

DEFAULT_DATA = Path("../shared/data")
DEFAULT_WORK = Path(".cache/einthoven-convert")
CORES = os.cpu_count() or 1
DEFAULT_EPOCHS = Recipe().epochs
DEFAULT_OUTPUT = Path("edge_models/einthoven_models")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, quantize and score the models that the SDK ships.",
)
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

Data = Annotated[Path, typer.Option("--data", help="Folder of data sets (its README gives the layout).")]
Dataset = Annotated[str, typer.Option(help="Which data set.")]
Work = Annotated[Path, typer.Option(help="Where caches and finished trainings are kept.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Trainings at a time; one thread each.")]


@app.command()
def train(
    data: Data = DEFAULT_DATA,
    dataset: Dataset = "cinc2017",
    output: Annotated[Path, typer.Option(help="Where the model goes.")] = DEFAULT_OUTPUT,
    work: Work = DEFAULT_WORK,
    workers: Workers = CORES,
    epochs: Annotated[int, typer.Option(min=1, max=10_000, help="Passes over the records.")] = DEFAULT_EPOCHS,
) -> None:
    """Train five folds and the shipped model; about 45 minutes on two cores. An interrupted run goes on."""
    pipeline = _pipeline()
    model = pipeline.train_and_ship(data, dataset, output, work, Recipe(epochs=epochs), workers, _err.print)
    written = f"{output / model.manifest.name}.tflite  sha256 {model.manifest.sha256}  {len(model.content)} B"
    _out.print(written, soft_wrap=True)
    _print_figures(model.manifest.metrics["figures"])


@app.command()
def evaluate(
    data: Data = DEFAULT_DATA,
    dataset: Dataset = "cinc2017",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    model_folder: Annotated[
        Path | None,
        typer.Option("--model", help="Folder with rhythm.tflite and rhythm.json; the shipped one, if not given."),
    ] = None,
    cross_validation: Annotated[
        bool, typer.Option(help="Score each fold's model on its own fold instead; trains what is missing in --work.")
    ] = False,
    work: Work = DEFAULT_WORK,
    workers: Workers = CORES,
) -> None:
    """Score the shipped int8 model through the SDK's own path, on any folder in the layout of --data."""
    if cross_validation:
        document, classes = _cross_validated(data, dataset, work, workers)
    else:
        document, classes = _scored(data, dataset, model_folder)
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    _print_figures(document["figures"])
    _print_classes(classes)


def _scored(data: Path, dataset: str, model_folder: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    from einthoven_conversion.training_records import record_ids_digest

    folder, records = open_dataset(data, dataset)
    model = load_model("rhythm", model_folder)
    with native_stderr_silenced():
        runner = LiteRtRunner(model)
    scores = score_records(
        model, runner, folder, records, lambda done, total: _err.print(f"{done} of {total} records", end="\r")
    )
    seen = model.manifest.recipe.get("records", {}).get("record_ids_sha256") == record_ids_digest(records)
    note = "the model was trained on these very records; see the cross-validated figures in its card" if seen else ""
    found = figures(dataset, scores, note=note)
    return {"machine": machine(), "figures": found}, class_table(scores)


def _cross_validated(data: Path, dataset: str, work: Path, workers: int) -> tuple[dict[str, Any], dict[str, Any]]:
    pipeline = _pipeline()
    report = pipeline.validate_folds(data, dataset, work, Recipe(), workers, _err.print)
    return {"machine": machine(), "figures": report["figures"]}, report["classes"]


def _pipeline() -> Any:
    """The training half, which needs the ``conversion`` extra."""
    for module, package in (("tensorflow", "TensorFlow"), ("scipy", "SciPy")):
        import importlib.util

        if importlib.util.find_spec(module) is None:
            raise DependencyMissing(f"{package} is not installed", "pip install 'einthoven[conversion]'")
    from einthoven_conversion import pipeline

    return pipeline


def _print_figures(found: list[dict[str, Any]]) -> None:
    table = Table(Column("figure", no_wrap=True), "value", Column("95 % interval", no_wrap=True), "n")
    for figure in found:
        low, high = figure["spread"]
        table.add_row(figure["id"], f"{figure['value']:.4f}", f"{low:.4f} to {high:.4f}", str(figure["n"]))
    _out.print(table)
    for figure in found:
        _out.print(f"{figure['id'].rsplit('.', 1)[-1]}: {figure['note']}", markup=False, soft_wrap=True)


def _print_classes(classes: dict[str, Any]) -> None:
    table = Table("class", "n", "F1", "95 % interval", "sensitivity", "no verdict")
    for label in ("N", "A", "O", "~"):
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


def main() -> None:
    """Run the command; an expected failure is one line and an exit status."""
    try:
        app()
    except (ConversionError, EinthovenError) as error:
        _err.print(f"einthoven-convert: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        _err.print("einthoven-convert: stopped; run it again to go on")
        sys.exit(130)


if __name__ == "__main__":
    main()
