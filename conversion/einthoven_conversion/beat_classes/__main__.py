"""``python -m einthoven_conversion.beat_classes``: cross-validate, train and export the beat classifier's tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from einthoven.errors import EinthovenError
from einthoven_conversion.beat_classes.copies import noise_of
from einthoven_conversion.beat_classes.examples import describe_all
from einthoven_conversion.beat_classes.page import write_figures
from einthoven_conversion.beat_classes.scoring import training_recordings, validated_figures
from einthoven_conversion.beat_classes.training import BeatClassRecipe, ship, validate, write
from einthoven_conversion.errors import ConversionError


def main(arguments: list[str] | None = None) -> int:
    """Cross-validate, train and export; about six minutes on one core."""
    parser = argparse.ArgumentParser(prog="python -m einthoven_conversion.beat_classes", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("edge_models/einthoven_models/beat_classes.json"))
    parser.add_argument("--page", type=Path, default=Path("conversion/BEAT_CLASSES.md"))
    parser.add_argument("--members", type=int, default=BeatClassRecipe().members)
    parser.add_argument("--steps", type=int, default=BeatClassRecipe().steps)
    parser.add_argument("--hidden", type=int, nargs="+", default=BeatClassRecipe().hidden)
    parser.add_argument("--weight-decay", type=float, default=BeatClassRecipe().weight_decay)
    parser.add_argument("--copies", nargs="*", default=BeatClassRecipe().copies)
    parser.add_argument("--seed", type=int, default=BeatClassRecipe().seed)
    given = parser.parse_args(arguments)
    recipe = BeatClassRecipe(
        hidden=tuple(given.hidden),
        members=given.members,
        steps=given.steps,
        weight_decay=given.weight_decay,
        copies=tuple(given.copies),
        seed=given.seed,
    )
    started = time.monotonic()

    def log(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {line}\n")
        sys.stderr.flush()

    try:
        recordings = training_recordings(given.data)
        described = describe_all(recordings, recipe.copies, noise_of(given.data), recipe.seed, log)
        validated = validate(recordings, described, recipe, log)
        figures = validated_figures("mitdb", validated)
        provenance = json.loads(
            json.dumps(
                {
                    "recipe": dataclasses.asdict(recipe),
                    "records": [recording.record_id for recording in recordings],
                    "out_of_fold": {one["id"]: [one["value"], *one["spread"]] for one in figures},
                    "temperature": round(validated.temperature, 4),
                    "calibration_error": round(validated.calibration_error, 4),
                }
            )
        )
        log(f"sha256 {write(ship(described, validated, recipe), provenance, given.output)}")
        if given.page.is_file():
            write_figures(given.page, figures, validated)
    except (ConversionError, EinthovenError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
