"""``python -m einthoven_conversion.signal_quality fit``: examples, five folds, and the tables that ship.

``fit`` writes ``quality.json`` beside the other models and prints out-of-fold and in-sample figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from einthoven.quality_network import QualityNetwork
from einthoven_conversion.errors import ConversionError
from einthoven_conversion.signal_quality.evaluating import Outcomes
from einthoven_conversion.signal_quality.examples import (
    FOLDS,
    Example,
    load_examples,
    make_examples,
    save_examples,
)
from einthoven_conversion.signal_quality.exporting import encoded, quantized
from einthoven_conversion.signal_quality.fitting import FitRecipe, fit

DEFAULT_DATA = Path("../shared/data")
DEFAULT_WORK = Path(".cache/einthoven-convert")
DEFAULT_OUTPUT = Path("edge_models/einthoven_models/quality.json")


def _progress(line: str) -> None:
    sys.stderr.write(line + "\n")


def _examples(data: Path, work: Path) -> list[Example]:
    path = work / "quality_examples.npz"
    if not path.is_file():
        save_examples(path, make_examples(data, _progress))
    return load_examples(path)


def _left_in(example: Example, fold: int) -> bool:
    """Whether a fold's network may see this: neither its recordings nor its piece of noise."""
    return fold not in {example.fold, example.piece}


def cross_validated(examples: list[Example], recipe: FitRecipe) -> Outcomes:
    """Each fold's recordings judged by the network that never saw them, nor one of the five pieces of noise."""
    outcomes = Outcomes()
    for fold in range(FOLDS):
        _progress(f"fold {fold}")
        network = fit([one for one in examples if _left_in(one, fold)], recipe, _progress)
        outcomes.add(
            QualityNetwork(quantized(network, {}, {})), [one for one in examples if one.fold == fold], unseen_piece=fold
        )
    return outcomes


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="einthoven_conversion.signal_quality", description=__doc__)
    parser.add_argument("command", choices=["fit"])
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--steps", type=int, default=FitRecipe().steps)
    parser.add_argument("--no-folds", action="store_true", help="skip cross-validation")
    options = parser.parse_args()
    recipe = FitRecipe(steps=options.steps)
    try:
        examples = _examples(options.data, options.work)
        metrics = {} if options.no_folds else {"out_of_fold": cross_validated(examples, recipe).as_dict()}
        network = fit(examples, recipe, _progress)
    except ConversionError as error:
        _progress(f"einthoven_conversion.signal_quality: {error}")
        sys.exit(error.exit_status)
    in_sample = Outcomes()
    in_sample.add(QualityNetwork(quantized(network, {}, {})), examples)
    metrics["in_sample"] = in_sample.as_dict()
    options.output.write_bytes(encoded(quantized(network, metrics, recipe.as_dict())))
    sys.stdout.write(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    main()
