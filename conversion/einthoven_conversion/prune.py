"""Gradual magnitude pruning: small weights go, a few at a time, while training goes on.

Zhu M, Gupta S. To prune, or not to prune: exploring the efficacy of pruning for model compression. arXiv:1710.01878,
equation 1. The device's kernels are dense, so this saves no time there; it halves what an update of the model costs to
send, because zeros compress.

It deliberately leaves the first layer and the head whole: they hold 2 % of the weights and are the most sensitive.

Invariants:
    1. A weight that was pruned stays pruned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KERNEL_PREFIX = "kernel_"
WHOLE = {"kernel_0"}


def is_pruned(name: str) -> bool:
    """Whether a weight of this name is pruned at all."""
    return name.startswith(KERNEL_PREFIX) and name not in WHOLE


def sparsity_at(progress: float, final: float, pruned_by: float) -> float:
    """Share of weights that is gone at ``progress`` (0 to 1) of the training; rises as a cubic, fast at first."""
    if not final:
        return 0.0
    left = max(0.0, 1.0 - progress / pruned_by)
    return final * (1.0 - left**3)


def magnitude_mask(kernel: NDArray[np.float32], sparsity: float) -> NDArray[np.float32]:
    """1.0 for the weights that stay, 0.0 for the smallest share ``sparsity`` of them; the shape of ``kernel``."""
    gone = int(sparsity * kernel.size)
    mask = np.ones(kernel.size, np.float32)
    mask[np.argsort(np.abs(kernel), axis=None, kind="stable")[:gone]] = 0.0
    return mask.reshape(kernel.shape)
