"""Trains both scorers, with and without cross-validation by subject, and packs the tables that ship.

The second scorer learns from what the first says of subjects that the first has not seen, as on the device. It
deliberately picks nothing by itself: sizes, epochs and threshold are in ``BeatRecipe``.

Invariants:
    1. No subject, whatever the data set, is on both sides of a fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven import beat_context, beat_detector, beat_features, beat_scorer
from einthoven.beat_candidates import FILTER_SHIFT
from einthoven.beat_tables import SCHEMA, Document, Layer, LayerEntry, TablesEntry, digest, layers_from, pack_layers
from einthoven.resampling import MODEL_RATE_HZ
from einthoven_conversion.beats import augment, network
from einthoven_conversion.beats.examples import BEAT, NEITHER, Scan, scan
from einthoven_conversion.beats.matching import Comparison, compare
from einthoven_conversion.beats.peer_marks import marks_of, read_agreed
from einthoven_conversion.beats.recordings import Recording, read_references

FOLDS = 5
TABLES_VERSION = 1
TAPS = 33
PASS_BAND_HZ = (5.0, 20.0)
MARKED = ("mitdb", "qtdb", "cpsc2021_sample", "cudb_sample")
TEST_SNRS_DB = (12, 6, 0)
CHUNK = 65_536
THRESHOLDS = (-2.0, -1.5, -1.25, -1.0, -0.75, -0.5, 0.0)
"""Thresholds that figures are given for, so that one can be chosen."""


@dataclass(frozen=True, slots=True)
class BeatRecipe:
    """What a training is made of.

    Attributes:
        first_hidden: Units of the first scorer's hidden layers.
        second_hidden: Those of the second.
        first_epochs: Passes of the first.
        second_epochs: Passes of the second.
        noisy_copies: Noisy copies of each marked recording.
        ectopic_weight: What an ectopic beat counts for.
        noisy_weight: What an example of a noisy copy counts for.
        other_lead_weight: What an example of a second channel counts for.
        peer_weight: What an example with peers' marks counts for.
        threshold: Least logit of a beat, in units of 1.
        seed: Of everything random.
    """

    first_hidden: tuple[int, ...] = (96, 32)
    second_hidden: tuple[int, ...] = (64, 24)
    first_epochs: int = 7
    second_epochs: int = 8
    noisy_copies: int = 3
    ectopic_weight: float = 3.0
    noisy_weight: float = 0.5
    other_lead_weight: float = 0.4
    peer_weight: float = 0.4
    threshold: float = -1.0
    seed: int = 1


def design_band_pass() -> tuple[int, ...]:
    """Symmetric integer taps with a gain of 2**``FILTER_SHIFT`` at most (Hamming window)."""
    from scipy.signal import firwin, freqz

    taps = firwin(TAPS, PASS_BAND_HZ, pass_zero=False, fs=MODEL_RATE_HZ, window="hamming")
    scaled = np.rint(taps / np.abs(freqz(taps, worN=512)[1]).max() * 2**FILTER_SHIFT)
    return tuple(int(value) for value in (scaled + scaled[::-1]) // 2)


def build(root: Path, work: Path, recipe: BeatRecipe, log: Callable[[str], None]) -> list[Scan]:
    """Scan every recording and its copies; those of kind ``test<dB>`` are for measuring alone."""
    rng = np.random.default_rng(recipe.seed)
    noise = augment.Noise(root)
    taps = np.array(design_band_pass(), np.float64)
    test_noise = np.concatenate(noise.test)
    scans: list[Scan] = []
    for dataset in MARKED:
        for recording in read_references(root, dataset, channels=2):
            if recording.channel:
                scans.append(scan(recording, taps, "lead", recipe.other_lead_weight))
                scans.append(scan(_noisy(recording, noise, rng), taps, "lead", recipe.other_lead_weight / 2))
                continue
            scans.append(scan(recording, taps))
            scans += [
                scan(_noisy(recording, noise, rng), taps, "noisy", recipe.noisy_weight)
                for _ in range(recipe.noisy_copies)
            ]
            scans += [scan(piece, taps, "piece") for piece in augment.pieces(recording, rng)]
            if dataset == "mitdb":
                for snr_db in TEST_SNRS_DB:
                    scans.append(scan(augment.with_noise(recording, test_noise, snr_db), taps, f"test{snr_db}"))
        log(f"{dataset}: {len(scans)} scans")
    marked = frozenset(f"qtdb/{one.recording.record_id}" for one in scans if _fully_marked(one.recording))
    for recording in read_agreed(root, marks_of(root, work, log), marked):
        scans.append(scan(recording, taps, "peers", recipe.peer_weight))
        scans.append(scan(_noisy(recording, noise, rng), taps, "peers", recipe.peer_weight * recipe.noisy_weight))
    log(f"all: {len(scans)} scans, {sum(len(one.labels) for one in scans)} candidates")
    return scans


def _fully_marked(recording: Recording) -> bool:
    return recording.dataset == "qtdb" and not recording.left_out


def _noisy(recording: Recording, noise: augment.Noise, rng: np.random.Generator) -> Recording:
    drawn = noise.draw(len(recording.samples), rng)
    return augment.faster(augment.with_noise(recording, drawn, float(rng.choice(augment.SNRS_DB))), rng)


def folds_of(scans: Sequence[Scan]) -> list[int]:
    """Fold of each scan: by subject, ``mitdb`` and the others spread evenly, the index's own where it has one."""
    rng = np.random.default_rng(7)
    subjects = sorted({one.recording.subject for one in scans if one.recording.fold is None})
    fold = {}
    for group in ([s for s in subjects if s.startswith("mitdb:")], [s for s in subjects if not s.startswith("mitdb:")]):
        for number, place in enumerate(rng.permutation(len(group))):
            fold[group[place]] = number % FOLDS
    return [fold[one.recording.subject] if one.recording.fold is None else one.recording.fold for one in scans]


@dataclass(slots=True)
class Judged:
    """A scan after the first scorer.

    Attributes:
        likely: int64 [m], the candidates that the second scorer sees.
        features: int8 [m, beat_context.FEATURES].
    """

    likely: NDArray[np.int64]
    features: NDArray[np.int8]


def logits_of(features: NDArray[np.int8], layers: tuple[Layer, ...]) -> NDArray[np.int64]:
    """Score in chunks, through the device's code."""
    parts = [
        beat_scorer.score(features[i : i + CHUNK].astype(np.float32), layers) for i in range(0, len(features), CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def judge(one: Scan, first: tuple[Layer, ...]) -> Judged:
    """Run the first scorer and describe what is left in its context."""
    logits = logits_of(one.features, first)
    likely = np.flatnonzero(logits > beat_context.LEAST_LOGIT)
    before, rows_before = beat_context.nothing_before()
    positions = np.concatenate([before, one.positions[likely]])
    rows = beat_context.summarize(one.features[likely].astype(np.float32), logits[likely])
    features = beat_context.extract(positions, np.concatenate([rows_before, rows]), len(before), len(positions))
    return Judged(likely, features.astype(np.int8))


def _fit(
    features: Sequence[NDArray[np.int8]],
    scans: Sequence[Scan],
    chosen: Sequence[NDArray[np.int64] | slice],
    recipe: BeatRecipe,
    hidden: tuple[int, ...],
    epochs: int,
    seed: int,
) -> tuple[LayerEntry, ...]:
    parts: list[tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.float32]]] = []
    for values, one, index in zip(features, scans, chosen, strict=True):
        labels = one.labels[index]
        known = labels != NEITHER
        weights = np.where(one.ectopic[index], recipe.ectopic_weight, 1.0) * one.weight
        parts.append((values[known], (labels[known] == BEAT).astype(np.float32), weights[known].astype(np.float32)))
    examples = network.Examples(*(np.concatenate([part[i] for part in parts]) for i in range(3)))
    del parts
    layers = network.fit(examples, hidden, epochs, seed)
    return network.quantize(layers, examples.features[::50])


def fit_first(scans: Sequence[Scan], recipe: BeatRecipe, seed: int) -> tuple[LayerEntry, ...]:
    """Train the first scorer."""
    everything = [slice(None)] * len(scans)
    features = [one.features for one in scans]
    return _fit(features, scans, everything, recipe, recipe.first_hidden, recipe.first_epochs, seed)


def fit_second(
    scans: Sequence[Scan], judged: Sequence[Judged], recipe: BeatRecipe, seed: int
) -> tuple[LayerEntry, ...]:
    """Train the second scorer on what the first said of subjects that it had not seen."""
    features, likely = [one.features for one in judged], [one.likely for one in judged]
    return _fit(features, scans, likely, recipe, recipe.second_hidden, recipe.second_epochs, seed)


def detected(one: Scan, judged: Judged, second: tuple[Layer, ...], threshold: int) -> NDArray[np.float64]:
    """R peaks in seconds, settled as on the device."""
    logits = logits_of(judged.features, second)
    peaks_s: list[float] = []
    best: int | None = None
    positions = one.positions[judged.likely]
    for number in np.flatnonzero(logits > threshold).tolist():
        if best is not None and positions[number] - positions[best] >= beat_detector.REFRACTORY:
            peaks_s.append(float(one.peaks_s[judged.likely[best]]))
            best = None
        if best is None or logits[number] > logits[best]:
            best = number
    if best is not None:
        peaks_s.append(float(one.peaks_s[judged.likely[best]]))
    return np.array(peaks_s)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run gives.

    Attributes:
        tables: What ships, trained on everything.
        out_of_fold: For each threshold every measured scan with its comparison, by a model that had not seen the
            subject.
    """

    tables: TablesEntry
    out_of_fold: dict[float, list[tuple[Scan, Comparison]]]


def train(scans: Sequence[Scan], recipe: BeatRecipe, log: Callable[[str], None]) -> Trained:
    """Cross-validate, then train what ships."""
    folds = folds_of(scans)
    learning = [i for i, one in enumerate(scans) if not one.kind.startswith("test")]
    judged: dict[int, Judged] = {}
    for fold in range(FOLDS):
        first = fit_first([scans[i] for i in learning if folds[i] != fold], recipe, recipe.seed + fold)
        layers = layers_from(first, beat_features.FEATURES)
        judged |= {i: judge(one, layers) for i, one in enumerate(scans) if folds[i] == fold}
        log(f"first scorer, fold {fold}")
    seconds = {}
    for fold in range(FOLDS):
        others = [i for i in learning if folds[i] != fold]
        second = fit_second([scans[i] for i in others], [judged[i] for i in others], recipe, recipe.seed + fold)
        seconds[fold] = layers_from(second, beat_context.FEATURES)
        log(f"second scorer, fold {fold}")
    measured = [i for i, one in enumerate(scans) if one.kind == "clean" or one.kind.startswith("test")]
    out_of_fold = {
        threshold: [(scans[i], _compared(scans[i], judged[i], seconds[folds[i]], threshold)) for i in measured]
        for threshold in {*THRESHOLDS, recipe.threshold}
    }
    first = fit_first([scans[i] for i in learning], recipe, recipe.seed + FOLDS)
    second = fit_second([scans[i] for i in learning], [judged[i] for i in learning], recipe, recipe.seed + FOLDS)
    log("the tables that ship")
    threshold = round(recipe.threshold * beat_scorer.LOGIT_ONE)
    tables = TablesEntry(
        band_pass=design_band_pass(), first=pack_layers(first), second=pack_layers(second), threshold=threshold
    )
    return Trained(tables, out_of_fold)


def _compared(one: Scan, judged: Judged, second: tuple[Layer, ...], threshold: float) -> Comparison:
    peaks_s = detected(one, judged, second, round(threshold * beat_scorer.LOGIT_ONE))
    return compare(one.recording.beats_s, peaks_s, one.recording.left_out)


def write(tables: TablesEntry, provenance: dict[str, object], path: Path) -> str:
    """Write ``beats.json``; returns the digest in it."""
    sha256 = digest(tables, provenance)
    document = Document(schema=SCHEMA, version=TABLES_VERSION, sha256=sha256, tables=tables, provenance=provenance)
    path.write_bytes(msgspec.json.encode(document, order="deterministic") + b"\n")
    return sha256
