"""Scores the shipped tables through the SDK's own path, and turns counts into the figures that ``figures.csv`` names.

It deliberately chooses nothing: what is scored is what ships, or what was counted out of fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from einthoven.beat_class_tables import RESOURCE, read_document
from einthoven.models import load_model
from einthoven.resampling import ResamplerTable
from einthoven.signal_path import SignalPath
from einthoven_conversion.beat_classes import counting
from einthoven_conversion.beat_classes.copies import noise_of
from einthoven_conversion.beat_classes.counting import Counts, count, labels_of
from einthoven_conversion.beat_classes.examples import describe_all
from einthoven_conversion.beat_classes.recordings import (
    DATASET,
    TRAINING_GROUP,
    ClassRecording,
    read_class_recordings,
)
from einthoven_conversion.beat_classes.training import BeatClassRecipe, Validated, validate
from einthoven_conversion.errors import DatasetNotFound
from einthoven_models import read_resource

CONVENTION: Final = (
    "EC57: 150 ms, beats missed count against sensitivity, false detections given the class against its PPV; "
    "F and Q, paced records and flutter left out"
)
_NAMES: Final = (
    ("macro_f1_nsv", counting.MACRO_F1),
    ("v_sensitivity", counting.V_SENSITIVITY),
    ("s_sensitivity", counting.S_SENSITIVITY),
    ("v_ppv", counting.V_PPV),
    ("s_ppv", counting.S_PPV),
)


def score_mitdb(data: Path, dataset: str = DATASET) -> list[dict[str, Any]]:
    """Figures of the shipped tables on every record found that is not paced.

    Args:
        data: Folder of data sets in the layout of ``../shared/data``.
        dataset: ``mitdb``.

    Raises:
        ConversionError: No such data set, or a damaged one.
    """
    seen = set(read_document(read_resource(RESOURCE)).provenance.get("records", []))  # type: ignore[call-overload]
    found, known = [], 0
    for recording in read_class_recordings(data, dataset):
        found.append(score_recording(recording))
        known += recording.record_id in seen
    note = f"{known} of these {len(found)} records are among those the tables were trained on" if known else ""
    return figures(dataset, found, note)


def score_recording(recording: ClassRecording) -> Counts:
    """Run the SDK's signal path over the raw samples, and count."""
    rate = recording.sampling_rate_hz
    table = ResamplerTable(load_model().coefficients, rate)
    path = SignalPath(load_model().coefficients, rate, table=table)
    chunks = [path.push(recording.samples_uv), path.finish()]
    at_s = np.concatenate([chunk.beats.r_peaks for chunk in chunks]) / float(rate)
    classes = np.concatenate([chunk.beats.classes for chunk in chunks]).astype(np.int64)
    return count(recording, labels_of(recording, at_s), classes)


def cross_validated_figures(
    data: Path, dataset: str = DATASET, log: Callable[[str], None] = lambda _line: None
) -> list[dict[str, Any]]:
    """Figures of leave-records-out cross-validation in group ``ds1``, with the recipe that ships; trains all of it.

    Raises:
        ConversionError: No such data set, a damaged one, or too few records.
    """
    recordings = training_recordings(data, dataset)
    recipe = BeatClassRecipe()
    described = describe_all(recordings, recipe.copies, noise_of(data), recipe.seed, log)
    return validated_figures(dataset, validate(recordings, described, recipe, log))


def validated_figures(dataset: str, validated: Validated) -> list[dict[str, Any]]:
    """Figures of a cross-validation."""
    return figures(dataset, validated.nested, "leave-records-out, offsets chosen on the other folds")


def training_recordings(data: Path, dataset: str = DATASET) -> list[ClassRecording]:
    """The records to learn from.

    Raises:
        DatasetNotFound: None of group ``ds1`` there.
    """
    recordings = list(read_class_recordings(data, dataset, group=TRAINING_GROUP))
    if not recordings:
        raise DatasetNotFound(f"no record of group {TRAINING_GROUP} in {dataset}", "give the folder with --data")
    return recordings


def figures(dataset: str, counts: Sequence[Counts], note: str = "") -> list[dict[str, Any]]:
    """Figures with their 95 % bootstrap interval over records; one that rests on no beat is left out."""
    if not counts:
        return []
    matrix, missed, false = counting.pooled(counts)
    values, (low, high) = counting.measures(matrix, missed, false), counting.intervals(counts)
    beats = matrix.sum(axis=1) + missed
    said = matrix.sum(axis=0) + false
    n_of = (
        int(beats.sum()),
        int(beats[counting.V]),
        int(beats[counting.S]),
        int(said[counting.V]),
        int(said[counting.S]),
    )
    ppv = values[counting.S_PPV]
    found = []
    for name, i in _NAMES:
        if np.isnan(values[i]):
            continue
        remarks = [f"n beats in {len(counts)} records, interval over records", CONVENTION, note]
        if i == counting.S_SENSITIVITY and not np.isnan(ppv):
            remarks.insert(0, f"PPV {ppv:.4f} of {n_of[counting.S_PPV]} beats called S")
        found.append(
            {
                "id": f"model.{dataset}.{name}",
                "value": round(float(values[i]), 5),
                "unit": "1",
                "n": n_of[i],
                "spread": [round(float(low[i]), 5), round(float(high[i]), 5)],
                "note": "; ".join(remark for remark in remarks if remark),
            }
        )
    return found
