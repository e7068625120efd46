"""From the fitted floats to the integers that ship.

It deliberately measures nothing: ``evaluating`` scores the integers themselves.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from einthoven.packed_integers import pack_integers
from einthoven.quality_network import AHEAD_S, BEHIND_S, SCHEMA, Layer, QualityTables
from einthoven_conversion.signal_quality.fitting import FloatNetwork

ACTIVATION_BITS = 8
"""An activation of 1 is 2**8."""
FIRST_SHIFT, SHIFT = 22, 12
LOGIT_BITS = 8
INDEX_STEPS = 100
USABLE_MARGIN = 0.5
"""Taken off every logit: a usable second is surer than even, so that hopeless noise stays flagged on other records."""


def index_limits() -> tuple[int, ...]:
    """Logits, in 1/256, of 0.5 %, 1.5 % ... 99.5 %; the middle one is 0, which is where a second becomes usable."""
    share = (np.arange(INDEX_STEPS) + 0.5) / INDEX_STEPS
    limits = np.rint(np.log(share / (1 - share)) * 2**LOGIT_BITS).astype(int)
    limits[INDEX_STEPS // 2 - 1] = 0
    return tuple(limits.tolist())


def quantized(network: FloatNetwork, metrics: dict[str, Any], recipe: dict[str, Any]) -> QualityTables:
    """Integer tables of a fitted network; scaling of the measures is folded into the first layer."""
    window = BEHIND_S + 1 + AHEAD_S
    mean, deviation = np.tile(network.mean, window), np.tile(network.deviation, window)
    (first, first_bias), (middle, middle_bias), (last, last_bias) = network.layers
    unit = 2**ACTIVATION_BITS
    last_bias = last_bias - USABLE_MARGIN * (np.arange(len(last_bias)) == 0)
    weights = np.rint(first / deviation[:, None] * unit * 2**FIRST_SHIFT)
    layers = (
        _layer(weights, first_bias * unit * 2**FIRST_SHIFT - mean @ weights, FIRST_SHIFT),
        _layer(middle * 2**SHIFT, middle_bias * unit * 2**SHIFT, SHIFT),
        _layer(last * 2**SHIFT, last_bias * unit * 2**SHIFT, SHIFT + ACTIVATION_BITS - LOGIT_BITS),
    )
    return QualityTables(schema=SCHEMA, layers=layers, index_limits=index_limits(), metrics=metrics, recipe=recipe)


def _layer(weights: NDArray[np.float64], bias: NDArray[np.float64], shift: int) -> Layer:
    integers, offsets = (np.rint(part).astype(np.int64) for part in (weights, bias))
    return Layer(weights=pack_integers(integers), bias=pack_integers(offsets), shift=shift)


def encoded(tables: QualityTables) -> bytes:
    """``quality.json``: fixed order of keys, one line."""
    return msgspec.json.encode(tables, order="deterministic") + b"\n"
