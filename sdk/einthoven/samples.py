"""Whatever an app calls samples -> int32 microvolts. Pure.

It deliberately guesses no unit: microvolts are what a session takes, and a source converts before.

Invariants:
    1. Rounding is half to even (IEEE 754), the same on every machine.
    2. What no electrode can give (NaN, infinity, beyond ``MAX_ABS_UV``) becomes ``MISSING_UV``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from einthoven.errors import InputError
from einthoven.ports import MISSING_UV

MAX_ABS_UV: Final = 1_000_000
"""One volt: three times the largest electrode offset that IEC 60601-2-47 asks a recorder to bear (300 mV)."""


def as_microvolts(samples: ArrayLike, *, max_samples: int) -> NDArray[np.int32]:
    """Return samples as int32 [n] microvolts, read-only use.

    Args:
        samples: [n] integers or floats in microvolts.
        max_samples: Most samples to accept.

    Raises:
        InputError: Not one-dimensional, not numbers, or more than ``max_samples``.
    """
    try:
        array = np.asarray(samples)
    except ValueError as problem:
        raise InputError("samples are not a flat sequence", "push one lead as a 1-D array of microvolts") from problem
    if array.ndim != 1:
        raise InputError(f"samples have {array.ndim} dimensions", "push one lead as a 1-D array of microvolts")
    if array.size > max_samples:
        raise InputError(f"{array.size} samples in one push", f"push at most {max_samples} at a time")
    if array.size == 0:
        return np.empty(0, dtype=np.int32)
    if array.dtype.kind not in "iuf":
        raise InputError(f"samples are of type {array.dtype}", "push integers or floats in microvolts")
    if array.dtype.kind == "f":
        bad = ~(np.abs(array) <= MAX_ABS_UV)
        rounded = np.rint(np.where(bad, 0, array)).astype(np.int32)
    else:
        bad = (array > MAX_ABS_UV) | (array < -MAX_ABS_UV)
        rounded = np.where(bad, 0, array).astype(np.int32)
    rounded[bad] = MISSING_UV
    return rounded
