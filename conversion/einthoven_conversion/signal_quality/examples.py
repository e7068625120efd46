"""Examples to fit on: measures of seconds, with what is to be said of them. Made once, kept in one file.

It deliberately uses the SDK's own resampler and measures, so that what is fitted is what the device computes.

Invariants:
    1. Everything of one person known to be in two sets (records of mitdb that qtdb was cut from) is in one fold.
    2. The same recordings give the same examples: every draw comes from a generator seeded by the record's name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.quality_measures import N_MEASURES
from einthoven.quality_network import REASONS
from einthoven.results import Quality
from einthoven_conversion.datasets import LABELS, read_channels
from einthoven_conversion.signal_quality.labels import detected_beats, right_seconds, usable_target
from einthoven_conversion.signal_quality.noise_cases import (
    EM_PIECES,
    Noise,
    looped,
    make_case,
    mixed,
    qrs_height_uv,
    read_noise,
    scaled_to_snr,
)
from einthoven_conversion.signal_quality.recordings import (
    Recording,
    measured,
    read_recordings,
    with_gap,
)

FOLDS = 5
SNRS_DB = {"mitdb": (24, 18, 12, 6, 3, 0, -3, -6, -9, -12), "qtdb": (12, 6, 0, -6)}
CASES = {"mitdb": 3, "qtdb": 1, "cinc2017": 1}
"""Stretches a record and a kind of noise."""
CASE_S, CASE_EDGE_S = 40, 12
CINC_CASES_EVERY = 12
TEMPOS = (0.65, 1.5, 2.2)
"""Clean stretches played slower and faster, so that a slow or a fast heart is no noise."""
LEAST_BEATS = 100
NO_REASON = -1
CLEAN_DB, FLAGGED_DB = 99, -6
DOUBLE = 2
"""Weight of what must not go wrong: clean signal (also beside noise), hopeless noise, and noise in which the detector
fails. The last puts the threshold where two seconds in three are right."""


@dataclass(frozen=True, slots=True)
class Example:
    """Consecutive seconds.

    Attributes:
        group: What it is of: ``label`` (a cinc2017 record), ``em`` (electrode motion), ``clean`` or ``case``.
        name: The recording.
        fold: The recording's fold.
        piece: Which piece of electrode motion is in it, -1 for none.
        snr_db: Its level; 99 for none.
        measures: int16 [s, N_MEASURES].
        target: float32 [s], 1 usable, 0 not; of a ``label`` example 0 for ``~``.
        weight: float32 [s], 0 where undecided.
        reason: int8 [s], position in ``REASONS``, -1 for none.
        right: bool [s], the detector was right here (true where there is no reference).
    """

    group: str
    name: str
    fold: int
    piece: int
    snr_db: int
    measures: NDArray[np.int16]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    reason: NDArray[np.int8]
    right: NDArray[np.bool_]


def make_examples(root: Path, progress: Callable[[str], None]) -> list[Example]:
    """All examples of a data folder; about four minutes."""
    noise = read_noise(root)
    found: list[Example] = []
    folds: dict[str, int] = {}
    for dataset in ("mitdb", "qtdb"):
        for i, recording in enumerate(read_recordings(root, dataset, least_beats=LEAST_BEATS)):
            number = recording.record_id.removeprefix("sele0").removeprefix("sel")
            folds[recording.name] = folds.get(f"mitdb/{number}", i % FOLDS)
            found += _noise_stress(recording, folds[recording.name], i, noise)
            found += _cases(recording, folds[recording.name], noise, CASES[dataset])
            progress(recording.name)
    found += _labelled(root, noise)
    return found


def _noise_stress(recording: Recording, fold: int, position: int, noise: Noise) -> Iterator[Example]:
    """One recording clean and at each level; every level with another piece and channel."""
    rate, samples = recording.rate_hz, recording.samples_uv
    height = qrs_height_uv(samples, recording.beats, rate)
    for i, snr_db in enumerate((CLEAN_DB, *SNRS_DB[recording.dataset])):
        noisy, piece = samples, -1
        if snr_db != CLEAN_DB:
            piece = (position + i) % EM_PIECES
            added = looped(noise.em[piece][0 if i % 3 else 1], rate, len(samples), 1_000 * position)
            noisy = mixed(samples, scaled_to_snr(added, height, rate, snr_db))
        measures = measured(noisy, rate)
        right = right_seconds(detected_beats(noisy, rate), recording.beats, rate, len(measures))
        reason = REASONS.index(Quality.ELECTRODE_MOTION) if snr_db <= 0 else NO_REASON
        yield Example(
            group="clean" if snr_db == CLEAN_DB else "em",
            name=recording.name,
            fold=fold,
            piece=piece,
            snr_db=snr_db,
            measures=measures,
            target=usable_target(snr_db, right),
            weight=np.where(right & (snr_db != CLEAN_DB) & (snr_db > FLAGGED_DB), 1, DOUBLE).astype(np.float32),
            reason=np.full(len(measures), reason, np.int8),
            right=right,
        )


def _cases(recording: Recording, fold: int, noise: Noise, number: int) -> Iterator[Example]:
    """Stretches with named noise in their middle, and with a gap."""
    rng = np.random.default_rng(zlib.crc32(recording.name.encode()))
    rate = recording.rate_hz
    length = min(CASE_S * rate, len(recording.samples_uv) // rate * rate)
    if length < 3 * CASE_EDGE_S // 2 * rate:
        return
    edge = min(CASE_EDGE_S, length // rate // 3)
    height = qrs_height_uv(recording.samples_uv, recording.beats, rate)
    for factor in TEMPOS:
        start = int(rng.integers(len(recording.samples_uv) - length + 1))
        measures = measured(recording.samples_uv[start : start + length], int(rate * factor))
        ones = np.ones(len(measures), np.float32)
        none = np.full(len(measures), NO_REASON, np.int8)
        yield Example("case", recording.name, fold, -1, CLEAN_DB, measures, ones, ones, none, ones > 0)
    for kind in (*REASONS, Quality.GAP):
        for _ in range(number):
            start = int(rng.integers(len(recording.samples_uv) - length + 1))
            stretch = recording.samples_uv[start : start + length].copy()
            seconds = length // rate
            target = np.ones(seconds, np.float32)
            weight = np.full(seconds, DOUBLE, np.float32)
            reason = np.full(seconds, NO_REASON, np.int8)
            if kind is Quality.GAP:
                at = int(rng.integers(edge * rate, 2 * edge * rate))
                stop = at + int(rng.uniform(0.1, 4) * rate)
                stretch = with_gap(stretch, at, stop)
                weight[at // rate : stop // rate + 1] = 0
            else:
                inside = slice(edge * rate, length - edge * rate)
                case = make_case(kind, stretch[inside], height, rate, noise, rng)
                stretch[inside] = case.samples_uv
                target[edge : seconds - edge] = not case.poor
                weight[edge : seconds - edge] = 0 if case.poor is None else DOUBLE
                if case.poor is not False:
                    reason[edge : seconds - edge] = case.reason
                weight[[edge - 1, seconds - edge]] = 0
            measures = measured(stretch, rate)
            yield Example("case", recording.name, fold, -1, CLEAN_DB, measures, target, weight, reason, target > 0)


def _labelled(root: Path, noise: Noise) -> Iterator[Example]:
    """Recordings that experts called too noisy, or not; and named noise on some of the latter."""
    for i, (line, channels) in enumerate(read_channels(root / "cinc2017")):
        rate, usable = int(line["fs_hz"]), line["label"] != LABELS[-1]
        fold, measures = int(line["fold"]), measured(channels[0], rate)
        seconds = len(measures)
        if not seconds:
            continue
        yield Example(
            group="label",
            name=f"cinc2017/{line['record_id']}",
            fold=fold,
            piece=-1,
            snr_db=CLEAN_DB,
            measures=measures,
            target=np.full(seconds, usable, np.float32),
            weight=np.ones(seconds, np.float32),
            reason=np.full(seconds, NO_REASON, np.int8),
            right=np.ones(seconds, np.bool_),
        )
        if line["label"] == "N" and i % CINC_CASES_EVERY == 0:
            recording = Recording("cinc2017", line["record_id"], rate, channels[0], np.zeros(0, np.int64))
            yield from _cases(recording, fold, noise, CASES["cinc2017"])


def save_examples(path: Path, examples: list[Example]) -> None:
    """Keep examples in one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "group": np.array([one.group for one in examples]),
        "name": np.array([one.name for one in examples]),
        "numbers": np.array([[one.fold, one.piece, one.snr_db, len(one.target)] for one in examples]),
    }
    for name in ("measures", "target", "weight", "reason", "right"):
        columns[name] = np.concatenate([getattr(one, name) for one in examples])
    with path.open("wb") as stream:
        np.savez(stream, **columns)  # type: ignore[arg-type]  # the stubs take the arrays for a flag


def load_examples(path: Path) -> list[Example]:
    """Read what ``save_examples`` kept."""
    with np.load(path, allow_pickle=False) as content:
        columns = {name: content[name] for name in content.files}
    assert columns["measures"].shape[1] == N_MEASURES
    stops = np.cumsum(columns["numbers"][:, 3])
    found = []
    for i, stop in enumerate(stops.tolist()):
        fold, piece, snr_db, length = (int(value) for value in columns["numbers"][i])
        rows = slice(stop - length, stop)
        found.append(
            Example(
                str(columns["group"][i]),
                str(columns["name"][i]),
                fold,
                piece,
                snr_db,
                columns["measures"][rows],
                columns["target"][rows],
                columns["weight"][rows],
                columns["reason"][rows],
                columns["right"][rows],
            )
        )
    return found
