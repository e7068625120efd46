"""A NumPy ``.npy`` file as a ``Source``: one dimension, numbers, with a declared sampling rate and unit.

It deliberately loads no pickled objects: such a file is a program.

Invariants:
    1. The file is mapped, not read: memory is bounded by ``READ_SAMPLES``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.samples import as_microvolts
from einthoven.source_checks import (
    READ_SAMPLES,
    Rate,
    microvolts_per,
    pieces,
    regular_file,
    sample_count,
    sampling_rate,
    source_name,
    translated,
)


@dataclass(frozen=True, slots=True)
class NpySource:
    """A one-dimensional array of samples. Made by ``open``."""

    name: str
    sampling_rate_hz: Fraction
    n_samples: int
    _array: NDArray[Any] = field(repr=False)
    _unit_uv: float = field(repr=False)
    simulated: bool = False
    started_at_ms: int | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        sampling_rate_hz: Rate = None,
        unit: str | None = None,
    ) -> Self:
        """Open a file.

        Args:
            path: The ``.npy`` file.
            sampling_rate_hz: Samples a second.
            unit: ``uV``, ``mV``, ``nV`` or ``V``.

        Raises:
            RecordNotFound: It is not there.
            RecordFormatError: Not such a file, truncated, or not one dimension of numbers.
            SamplingRateError: No rate is given, or one that is not supported.
            UnknownUnit: No unit is given, or one that is not a voltage.
        """
        regular_file(path)
        with translated("NPY"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iuf":
                raise RecordFormatError("the array is not one dimension of numbers", "save one lead as a 1-D array")
            return cls(
                name=source_name("NPY", None),
                sampling_rate_hz=sampling_rate(sampling_rate_hz),
                n_samples=sample_count(array.size),
                _array=array,
                _unit_uv=float(microvolts_per(unit)),
            )

    def chunks(self) -> Iterator[NDArray[np.int32]]:
        """Yield consecutive samples, int32 [n] microvolts, ``MISSING_UV`` where NaN or infinite."""
        for start in range(0, self.n_samples, READ_SAMPLES):
            with translated("NPY"), np.errstate(all="ignore"):
                microvolts = self._array[start : start + READ_SAMPLES].astype(np.float64) * self._unit_uv
                block = as_microvolts(microvolts, max_samples=READ_SAMPLES)
            yield from pieces(block, self.sampling_rate_hz)
