"""The small integer network behind the quality index: measures of a second and its neighbours in, index out.

Three dense layers with integer weights over a window of seconds. It deliberately trains nothing
(``einthoven_conversion.signal_quality`` does, and ships the integers in ``quality.json``), and knows no samples.

Invariants:
    1. Sums are integers below 2**53 in float64, so they are exact and the same in any order (checked on loading).
    2. Damaged or unknown tables raise ``ModelCorrupt``; nothing is guessed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven.errors import ModelCorrupt
from einthoven.packed_integers import PackedIntegers
from einthoven.quality_measures import N_MEASURES
from einthoven.results import Quality
from einthoven.single_thread import product
from einthoven_models import read_resource

SCHEMA: Final = 2
"""1 had its layers in digits."""
BEHIND_S: Final = 7
AHEAD_S: Final = 2
"""Seconds before and after a second that its index looks at."""
REASONS: Final = (Quality.BASELINE_WANDER, Quality.ELECTRODE_MOTION, Quality.MUSCLE, Quality.LEAD_OFF)
"""What the network's outputs after the first stand for, in this order."""
USABLE_INDEX: Final = 50
"""An index at or over this is usable."""
MAX_MEASURE: Final = 2**14

_WINDOW_S = BEHIND_S + 1 + AHEAD_S
_EXACT_FLOAT64 = 2**53
_Integer = Annotated[int, msgspec.Meta(ge=-(2**44), le=2**44)]
_Shift = Annotated[int, msgspec.Meta(ge=0, le=40)]


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """Integers of one dense layer: ``(x @ weights + bias) >> shift``, under 0 taken as 0 by the next.

    Attributes:
        weights: [inputs, outputs].
        bias: [outputs].
        shift: Bits dropped after the sum.
    """

    weights: PackedIntegers
    bias: PackedIntegers
    shift: _Shift


class QualityTables(msgspec.Struct, frozen=True, kw_only=True):
    """``quality.json`` as it ships.

    Attributes:
        schema: Version of this layout.
        layers: From the measures to the outputs.
        index_limits: 100 rising integers; the index is how many of them the first output reaches.
        metrics: Figures with their n.
        recipe: How it was made.
    """

    schema: int
    layers: tuple[Layer, ...]
    index_limits: tuple[_Integer, ...]
    metrics: dict[str, Any]
    recipe: dict[str, Any]


class QualityNetwork:
    """The network, ready to run.

    Args:
        tables: What shipped.

    Raises:
        ModelCorrupt: The tables do not fit together.
    """

    def __init__(self, tables: QualityTables) -> None:
        self._layers: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        width = _WINDOW_S * N_MEASURES
        largest = np.full(width, float(MAX_MEASURE))
        for layer in tables.layers:
            try:
                weights, bias = (part.values().astype(np.float64) for part in (layer.weights, layer.bias))
            except ValueError as error:
                raise _damaged() from error
            if bias.ndim != 1 or weights.shape != (width, bias.size):
                raise _damaged()
            width = bias.size
            largest = largest @ np.abs(weights) + np.abs(bias)
            if largest.max() >= _EXACT_FLOAT64:
                raise _damaged()
            # A power of two changes no bit of the sums, so the shift is in the weights already.
            scale = 2.0**-layer.shift
            self._layers.append((weights * scale, bias * scale))
            largest = np.ceil(largest * scale)
        if tables.schema != SCHEMA or not self._layers or width != 1 + len(REASONS):
            raise _damaged()
        self._limits = np.array(tables.index_limits, np.float64)
        if len(self._limits) != 100 or not bool((np.diff(self._limits) > 0).all()):
            raise _damaged()

    def run(self, measures: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Judge the seconds that have all their neighbours.

        Args:
            measures: int64 [n, N_MEASURES], consecutive seconds.

        Returns:
            Index [k] from 0 to 100 and reasons' scores [k, len(REASONS)], for the ``k = n - BEHIND_S - AHEAD_S``
            seconds from the ``BEHIND_S``-th on.
        """
        count = len(measures) - _WINDOW_S + 1
        # Measures are logarithms and correlations, under MAX_MEASURE by construction.
        flat = measures.astype(np.float64)
        windows = np.ndarray((count, _WINDOW_S * N_MEASURES), np.float64, flat, 0, (flat.strides[0], 8))
        outputs: NDArray[np.float64] = windows
        for i, (weights, bias) in enumerate(self._layers):
            if i:
                outputs = np.maximum(outputs, 0)
            outputs = np.floor(product(outputs, weights) + bias)
        return np.searchsorted(self._limits, outputs[:, 0], side="right"), outputs[:, 1:]


@lru_cache(maxsize=1)
def shipped_network() -> QualityNetwork:
    """The network that came with the package.

    Raises:
        ModelCorrupt: Its file is missing or damaged.
    """
    try:
        content = read_resource("quality.json")
    except OSError as error:
        raise _damaged() from error
    return QualityNetwork(read_tables(content))


def read_tables(content: bytes) -> QualityTables:
    """Parse ``quality.json``.

    Raises:
        ModelCorrupt: Not of this layout.
    """
    try:
        return msgspec.json.decode(content, type=QualityTables)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged() from error


def _damaged() -> ModelCorrupt:
    return ModelCorrupt("the tables of the signal quality are damaged", "install the package again")
