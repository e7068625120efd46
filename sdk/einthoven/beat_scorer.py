"""Tells QRS complexes from everything else: small networks of integers over features. Pure.

One runs over ``beat_features``, a second over ``beat_context``.

Matrix products are taken in float32 for the speed of BLAS; ``beat_tables`` has checked that no sum can reach 2**24, so
they are integer arithmetic and the same on every machine. It deliberately looks at one candidate at a time; what two of
them close to each other mean is settled in ``beat_detector``.

Invariants:
    1. The logit of a candidate depends on its own features alone.
    2. Every sum is exact.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.beat_tables import MAX_ACTIVATION, Layer
from einthoven.single_thread import product

LOGIT_ONE: Final = 256
"""A logit of 1 (odds of e : 1)."""
SCORE_SHIFT: Final = 4
"""A score of 255 stands for a logit of 8 or more, one of 0 for -8 or less."""


def score(features: NDArray[np.float32], layers: tuple[Layer, ...]) -> NDArray[np.int64]:
    """Say how much candidates look like QRS complexes.

    Args:
        features: float32 [k, inputs], integers in [-127, 127].
        layers: The network, at least two layers.

    Returns:
        int64 [k], logits in units of 1/``LOGIT_ONE``.
    """
    values = features
    for layer in layers[:-1]:
        values = product(values, layer.weights)
        values += layer.bias
        np.floor(values, out=values)
        np.minimum(values, MAX_ACTIVATION, out=values)
        np.maximum(values, 0, out=values)
    last = layers[-1]
    total = values @ last.weights[:, 0]
    total += last.bias[0]
    return np.asarray(np.floor(total), np.int64)


def as_scores(logits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Logits as 0 to 255, 128 where it could be either."""
    return np.asarray(np.minimum(np.maximum((logits >> SCORE_SHIFT) + 128, 0), 255))
