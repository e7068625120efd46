"""What is known of a signal's beats and seconds, as one value. Pure.

It deliberately computes nothing of a signal: ``signals`` does for a whole one, ``signal_monitor`` keeps it as it comes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SignalAnalysis:
    """Beats and quality of a signal.

    Attributes:
        r_peaks: int64 [k], sample indices of the R peaks.
        scores: uint8 [k], how sure the detector is, 0-255.
        amplitudes_uv: int64 [k], signed height of each R peak over the baseline, microvolts.
        flags: uint16 [s], bits of ``Quality``, one a whole second; 0 is usable.
        quality_index: uint8 [s], 0 worst to 100 best.
        classes: uint8 [k], ``BeatClass`` of each beat.
        class_permille: uint16 [k], calibrated probability of that class in 1/1000; 0 where it is ``UNKNOWN``.
    """

    r_peaks: NDArray[np.int64]
    scores: NDArray[np.uint8]
    amplitudes_uv: NDArray[np.int64]
    flags: NDArray[np.uint16]
    quality_index: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    class_permille: NDArray[np.uint16]

    @property
    def inverted(self) -> bool | None:
        """Whether most QRS complexes point down, as when two electrodes are swapped; ``None`` without beats."""
        return bool(2 * np.count_nonzero(self.amplitudes_uv < 0) > len(self.r_peaks)) if len(self.r_peaks) else None
