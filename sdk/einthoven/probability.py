"""Temperature-scaled softmax in integers: the same permille on every machine.

A float softmax is not: ``exp`` differs in its last bit between C libraries. Here a power of two is a product of ten
integer square roots of one half, and the temperature is a ratio of integers from the manifest.

It deliberately knows nothing of models; it is arithmetic.

Invariants:
    1. Integers in, integers out; no float anywhere.
    2. Permilles are rounded down for all but the most likely class, which gets the rest: they sum to 1000.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

OCTAVE = 1_024
"""Steps in a factor of two: exponents are given in 1/1024 octave."""
_ONE_BITS = 60
_OCTAVE_BITS = 10
_VANISHING_OCTAVES = 60


def _roots_of_half() -> tuple[int, ...]:
    """2**-(1/2), 2**-(1/4) ... 2**-(1/1024), each as an integer of 60 fractional bits."""
    roots = []
    root = 1 << (_ONE_BITS - 1)
    for _ in range(_OCTAVE_BITS):
        root = isqrt(root << _ONE_BITS)
        roots.append(root)
    return tuple(roots)


_ROOTS = _roots_of_half()


def power_of_half(exponent: int) -> int:
    """2**(-exponent / 1024) with 60 fractional bits, rounded down.

    Args:
        exponent: Not negative.
    """
    octaves, part = divmod(exponent, OCTAVE)
    if octaves >= _VANISHING_OCTAVES:
        return 0
    power = 1 << _ONE_BITS
    for bit, root in enumerate(_ROOTS):
        if part & (1 << (_OCTAVE_BITS - 1 - bit)):
            power = (power * root) >> _ONE_BITS
    return power >> octaves


def permilles(logits: Sequence[int], numerator: int, denominator: int) -> tuple[int, ...]:
    """Probabilities of the classes in 1/1000.

    Args:
        logits: Integer logits.
        numerator: With ``denominator``, turns one unit of a logit into 1/1024 octave; the temperature is in it.
        denominator: Positive.
    """
    highest = max(logits)
    weights = [power_of_half((highest - logit) * numerator // denominator) for logit in logits]
    total = sum(weights)
    shares = [weight * 1000 // total for weight in weights]
    shares[logits.index(highest)] += 1000 - sum(shares)
    return tuple(shares)
