"""What finds beats: the SDK's signal path, and peers for comparison (wfdb XQRS, NeuroKit2), behind one function.

It deliberately tunes no peer: each runs with its defaults. A peer that is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven_bench.signal_outputs import run_path


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a detector says about a record.

    Attributes:
        r_peaks: int64 [k], sample indices, ascending.
        flags: uint16 [s], quality flags of each whole second; 0 is usable. ``None`` from a peer.
        index: uint8 [s], quality index, 0 to 100. ``None`` from a peer.
    """

    r_peaks: NDArray[np.int64]
    flags: NDArray[np.uint16] | None = None
    index: NDArray[np.uint8] | None = None


Detector = Callable[[NDArray[np.int32], Fraction], Analysis]


def sdk(samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction) -> Analysis:
    """The SDK's own path, one push."""
    outputs = run_path(samples_uv, sampling_rate_hz)
    return Analysis(
        r_peaks=outputs["beats.r_peaks"].astype(np.int64),
        flags=outputs["seconds.flags"].astype(np.uint16),
        index=outputs["seconds.index"].astype(np.uint8),
    )


def xqrs(samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction) -> Analysis:
    """WFDB's XQRS with its defaults."""
    processing: Any = importlib.import_module("wfdb.processing")
    detector = processing.XQRS(sig=samples_uv / 1000.0, fs=float(sampling_rate_hz))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.detect(verbose=False)
    return Analysis(np.unique(np.asarray(detector.qrs_inds, np.int64)))


def neurokit(samples_uv: NDArray[np.int32], sampling_rate_hz: Fraction) -> Analysis:
    """NeuroKit2's own cleaning and detection with their defaults."""
    package: Any = importlib.import_module("neurokit2")
    rate = int(sampling_rate_hz) if sampling_rate_hz.denominator == 1 else float(sampling_rate_hz)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean = package.ecg_clean(samples_uv / 1000.0, sampling_rate=rate)
        _, found = package.ecg_peaks(clean, sampling_rate=rate)
    return Analysis(np.unique(np.asarray(found["ECG_R_Peaks"], np.int64)))


PEERS: dict[str, tuple[str, Detector]] = {"xqrs": ("wfdb", xqrs), "neurokit2": ("neurokit2", neurokit)}
"""Name in an id -> package and detector."""


def installed_peers() -> tuple[Sequence[str], Sequence[str]]:
    """Names of the peers that can run here, and packages that are missing."""
    here = [name for name, (package, _) in PEERS.items() if importlib.util.find_spec(package)]
    return here, [package for package, _ in PEERS.values() if not importlib.util.find_spec(package)]


def detector(name: str) -> Detector:
    """By name: ``sdk`` or a peer; a name travels to a worker's process, a function of a foreign package may not."""
    return sdk if name == "sdk" else PEERS[name][1]
