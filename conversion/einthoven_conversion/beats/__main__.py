"""``python -m einthoven_conversion.beats``: cross-validate, train and export the beat detector's tables."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from einthoven.errors import EinthovenError
from einthoven_conversion.beats.matching import Comparison, f1
from einthoven_conversion.beats.training import BeatRecipe, Trained, build, train, write
from einthoven_conversion.errors import ConversionError


def summary(trained: Trained, threshold: float) -> dict[str, dict[str, Any]]:
    """F1 of each data set and kind of copy, and every recording with an error; all out of fold."""
    found = trained.out_of_fold[threshold]
    figures: dict[str, dict[str, Any]] = {}
    for dataset, kind in sorted({(one.recording.dataset, one.kind) for one, _ in found}):
        chosen = [(one.recording, c) for one, c in found if (one.recording.dataset, one.kind) == (dataset, kind)]
        chosen.sort(key=lambda pair: -len(pair[1].missed_s) - len(pair[1].false_s))
        figures[f"{dataset}.{kind}"] = {
            "f1": round(f1([c for _, c in chosen]), 5),
            "records": len(chosen),
            "beats": sum(c.true_positives + len(c.missed_s) for _, c in chosen),
            "missed": sum(len(c.missed_s) for _, c in chosen),
            "false": sum(len(c.false_s) for _, c in chosen),
            "by_record": {r.record_id: [len(c.missed_s), len(c.false_s)] for r, c in chosen if _wrong(c)},
        }
    return figures


def _wrong(comparison: Comparison) -> bool:
    return len(comparison.missed_s) + len(comparison.false_s) > 0


def main(arguments: list[str] | None = None) -> int:
    """Cross-validate, train and export; about half an hour on one core."""
    parser = argparse.ArgumentParser(prog="python -m einthoven_conversion.beats", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path(".cache/einthoven-convert"))
    parser.add_argument("--output", type=Path, default=Path("edge_models/einthoven_models/beats.json"))
    for field in dataclasses.fields(BeatRecipe):
        if isinstance(field.default, int | float):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
        else:
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, nargs="+", default=field.default)
    given = vars(parser.parse_args(arguments))
    data, work, output = given.pop("data"), given.pop("work"), given.pop("output")
    options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    recipe = BeatRecipe(**options)
    started = time.monotonic()

    def log(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {line}\n")
        sys.stderr.flush()

    try:
        scans = build(data, work, recipe, log)
        trained = train(scans, recipe, log)
    except (ConversionError, EinthovenError) as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    figures = summary(trained, recipe.threshold)
    by_threshold = {
        f"{threshold:g}": {name: one["f1"] for name, one in summary(trained, threshold).items()}
        for threshold in sorted(trained.out_of_fold)
    }
    seen = sorted({f"{s.recording.dataset}/{s.recording.record_id}" for s in scans if s.kind != "peers"})
    provenance: dict[str, object] = {
        "recipe": dataclasses.asdict(recipe),
        "records_marked": seen,
        "records_with_peer_marks": len({s.recording.record_id for s in scans if s.kind == "peers"}),
        "out_of_fold": {name: {k: v for k, v in one.items() if k != "by_record"} for name, one in figures.items()},
    }
    provenance = json.loads(json.dumps(provenance))
    log(f"sha256 {write(trained.tables, provenance, output)}")
    sys.stdout.write(json.dumps({**figures, "f1_by_threshold": by_threshold}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
