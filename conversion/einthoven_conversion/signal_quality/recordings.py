"""Reads recordings with reference beats, and brings signals to 128 Hz and to measures with the SDK's own code.

It deliberately filters and measures nothing itself.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven.frontend import Filler
from einthoven.models import load_model
from einthoven.ports import MISSING_UV
from einthoven.quality_measures import SecondMeasures
from einthoven.resampling import Resampler, ResamplerTable
from einthoven_conversion.datasets import read_channels

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""MIT-BIH marks that stand for a beat."""
BEAT_FILES = {"mitdb": "annotations.csv.gz", "qtdb": "beats.csv.gz"}


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel with its reference beats.

    Attributes:
        dataset: Name of its set.
        record_id: Name within the set.
        rate_hz: Samples a second.
        samples_uv: int32 [n], microvolts.
        beats: int64 [k], sample indices; empty where the set has none.
    """

    dataset: str
    record_id: str
    rate_hz: int
    samples_uv: NDArray[np.int32]
    beats: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Unique over all sets."""
        return f"{self.dataset}/{self.record_id}"


def read_recordings(root: Path, dataset: str, *, least_beats: int = 0) -> Iterator[Recording]:
    """Yield the first channel of each record, cut to the stretch that has reference beats where the set has them."""
    beats = _reference_beats(root / dataset / BEAT_FILES[dataset]) if dataset in BEAT_FILES else {}
    for line, channels in read_channels(root / dataset):
        own = np.array(beats.get(line["record_id"], []), np.int64)
        if len(own) < least_beats:
            continue
        rate, samples, first = int(line["fs_hz"]), channels[0], 0
        if len(own):
            first = max(int(own[0]) - rate, 0)
            samples = samples[first : int(own[-1]) + rate]
        yield Recording(dataset, line["record_id"], rate, samples, own - first)


def _reference_beats(path: Path) -> dict[str, list[int]]:
    beats: dict[str, list[int]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            if line["symbol"] in BEAT_SYMBOLS:
                beats.setdefault(line["record_id"], []).append(int(line["sample"]))
    return {name: sorted(found) for name, found in beats.items()}


@lru_cache(maxsize=16)
def table(rate_hz: Fraction) -> ResamplerTable:
    """The shipped low-pass at one rate."""
    return ResamplerTable(load_model().coefficients, rate_hz)


def resampled(samples_uv: NDArray[np.int32], rate_hz: Fraction) -> NDArray[np.int64]:
    """A whole signal at 128 Hz, int64 [m], its right edge held."""
    taps = table(rate_hz)
    resampler = Resampler(taps)
    filled = Filler().push(samples_uv)
    first = resampler.push(filled)
    lacking = -(-len(samples_uv) * taps.denominator // taps.numerator) - len(first)
    tail = np.full(taps.half_taps + taps.numerator // taps.denominator + 2, filled[-1] if len(filled) else 0)
    return np.concatenate([first, resampler.push(tail)[:lacking]])


def measured(samples_uv: NDArray[np.int32], rate_hz: int) -> NDArray[np.int16]:
    """Measures of each whole second, int16 [s, N_MEASURES]."""
    meter = SecondMeasures()
    found = meter.push(resampled(samples_uv, Fraction(rate_hz)))
    return np.concatenate([found, meter.finish()])[: len(samples_uv) // rate_hz].astype(np.int16)


def with_gap(samples_uv: NDArray[np.int32], start: int, stop: int) -> NDArray[np.int32]:
    """The signal with samples ``start`` to ``stop - 1`` missing."""
    found = samples_uv.copy()
    found[start:stop] = MISSING_UV
    return found
