"""Matrix products that stay on one thread.

The signal path's matrices are small. OpenBLAS hands larger products to as many threads as there are cores, which then
spin: they cost a battery twice the energy for the same time, and on a busy machine many times the time.

It deliberately changes no sum: a row of the product depends on its own row alone.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

SINGLE_THREAD_PRODUCT: Final = 2**18
"""Multiplications in one product up to which OpenBLAS wakes no other thread."""

Float = TypeVar("Float", np.float32, np.float64)


def product(left: NDArray[Float], right: NDArray[Float]) -> NDArray[Float]:
    """Matrix product [k, n] x [n, m] to [k, m], in pieces of ``SINGLE_THREAD_PRODUCT``."""
    step = max(1, SINGLE_THREAD_PRODUCT // right.size)
    if len(left) <= step:
        return np.ascontiguousarray(left) @ right
    found = np.empty((len(left), right.shape[1]), right.dtype)
    for at in range(0, len(left), step):
        np.matmul(np.ascontiguousarray(left[at : at + step]), right, out=found[at : at + step])
    return found
