"""How clearly a verdict speaks for a class, in 1/1024 octave. Integers. Pure.

It deliberately knows nothing of windows or models; it is arithmetic on four logits.

Invariants:
    1. Integers in, integers out; no float anywhere, so every machine gives the same.
    2. A margin is above 0 exactly for the one class that is likelier than each other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from einthoven.probability import OCTAVE, power_of_half

_UNIT_BITS: Final = 60
"""Fractional bits of ``probability.power_of_half``."""
_STEPS: Final = 10
"""Squarings that give a logarithm's ten bits after the point: 1/1024 octave."""


def margin(logits: Sequence[int], rhythm: int) -> int:
    """How far a class is above the best of the others, 1/1024 octave; negative where it is below.

    Args:
        logits: One a class, 1/1024 octave.
        rhythm: Which class.
    """
    return logits[rhythm] - max(logit for label, logit in enumerate(logits) if label != rhythm)


def log_odds(logits: Sequence[int], rhythm: int) -> int:
    """Logarithm of a class's odds against all others together, 1/1024 octave, rounded up.

    Args:
        logits: One a class, 1/1024 octave.
        rhythm: Which class.
    """
    others = [logit for label, logit in enumerate(logits) if label != rhythm]
    highest = max(others)
    together = sum(power_of_half(highest - logit) for logit in others)
    return logits[rhythm] - highest - _octaves_above_one(together)


def _octaves_above_one(value: int) -> int:
    """1024 times the logarithm to base 2 of ``value / 2**60``, rounded down; ``value`` is 2**60 at least."""
    octaves = value.bit_length() - 1 - _UNIT_BITS
    mantissa = value >> octaves
    part = 0
    for _ in range(_STEPS):
        mantissa = (mantissa * mantissa) >> _UNIT_BITS
        over = mantissa >> (_UNIT_BITS + 1)
        part = 2 * part + over
        mantissa >>= over
    return octaves * OCTAVE + part
