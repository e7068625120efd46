"""The `einthoven-convert` command: train, evaluate, export, keygen, sign, card, vectors.

It deliberately decides nothing: ``pipeline`` trains, ``scoring`` and ``evaluate`` measure. ``evaluate`` needs no
TensorFlow. With ``--json`` standard output holds one JSON document and nothing else.

Exit status: 0 done; 2-4 as in ``einthoven_conversion.errors``; the SDK's own errors have theirs; 1 anything unforeseen.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ImportError:
    sys.exit("einthoven-convert: the command needs two more packages; run: pip install 'einthoven[cli]'")

from einthoven.errors import EinthovenError
from einthoven_conversion.cli_evaluate import evaluate, print_figures, training_half
from einthoven_conversion.cli_export import export
from einthoven_conversion.cli_signing import (
    OptionalKeys,
    card,
    finish,
    keygen,
    read_keys,
    sign,
    vectors,
)
from einthoven_conversion.errors import ConversionError
from einthoven_conversion.recipe import RHYTHM_RECIPE

DEFAULT_DATA = Path("../shared/data")
DEFAULT_WORK = Path(".cache/einthoven-convert")
CORES = os.cpu_count() or 1
DEFAULT_OUTPUT = Path("edge_models/einthoven_models")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, quantize and score the models that the SDK ships.",
)
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

app.command()(export)
for command in (evaluate, keygen, sign, card, vectors):
    app.command()(command)

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
    epochs: Annotated[int | None, typer.Option(min=1, max=10_000, help="Passes over the records, not 30.")] = None,
    key: OptionalKeys = None,
) -> None:
    """Train five folds and the shipped model; about 2 hours on two cores. An interrupted run goes on."""
    keys = read_keys(key)
    recipe = RHYTHM_RECIPE
    if epochs is not None:
        teacher = replace(recipe.teacher, epochs=epochs) if recipe.teacher else None
        recipe = replace(recipe, epochs=epochs, teacher=teacher)
    model = training_half().train_and_ship(data, dataset, output, work, recipe, workers, _err.print)
    written = f"{output / model.manifest.name}.tflite  sha256 {model.manifest.sha256}  {len(model.content)} B"
    _out.print(written, soft_wrap=True)
    if keys:
        finish(output, keys)
    else:
        _out.print(f"unsigned, refused until `einthoven-convert sign --key KEYFILE {output}`", soft_wrap=True)
    print_figures(model.manifest.metrics["figures"])


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
