"""How much do two sets differ? A sketch of 80 bytes, from which the holder of the other set estimates it.

Items (``riblt``) are dealt to strata, half of them to the first, a quarter to the second and so on, and in each stratum
to 64 buckets; a bit says whether a bucket's items are odd in number. What both sides hold cancels, so the XOR of two
sketches is that of the difference. (Strata as in Eppstein et al. 2011, "What's the Difference?"; parity instead of
counts, because only the number is wanted.)

It deliberately says nothing of which rows differ, and is a guess: a caller leaves room, and asks again where it must.

Invariants:
    1. A sketch is the same on every machine. An estimate need not be, and nothing depends on its last digits.
    2. Whatever the bytes of a sketch, an estimate is 0 to ``MAX_ESTIMATE``; only a wrong length raises.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.errors import DecodeError
from einthoven_protocol.riblt import ITEM_BITS, Items

STRATA: Final = 10
BUCKETS: Final = 64
SKETCH_BYTES: Final = limits.SKETCH_BYTES
MAX_ESTIMATE: Final = 2**20
"""Far beyond what coded symbols can mend; the sketch can't tell larger numbers apart."""

_BUCKET_SHIFT: Final = np.uint64(ITEM_BITS - 6)
_GUESSES: Final = np.unique(np.round(np.geomspace(1, MAX_ESTIMATE, 512)))


def sketch(own_items: Items) -> bytes:
    """Return the sketch of a set: 64-bit big-endian words, the first stratum first, bucket b at value 2**b."""
    return np.packbits(_parities(own_items)[:, ::-1], axis=1).tobytes()


def difference(own_items: Items, foreign_sketch: bytes) -> int:
    """Estimate in how many items the own set and the sketched one differ, both sides together.

    The likeliest number, with the buckets of a stratum taken as independent: off by a tenth or two.

    Raises:
        DecodeError: The sketch has another length.
    """
    if len(foreign_sketch) != SKETCH_BYTES:
        raise DecodeError(f"a sketch is {SKETCH_BYTES} bytes")
    bits = np.unpackbits(np.frombuffer(foreign_sketch, np.uint8).reshape(STRATA, -1), axis=1)[:, ::-1]
    odd = (bits ^ _parities(own_items)).sum(axis=1).astype(np.float64)
    if not odd.any():
        return 0
    fractions = 0.5 ** np.minimum(np.arange(1, STRATA + 1), STRATA - 1)
    # Of Poisson-many items in a bucket, an odd number falls with (1 - exp(-2 * mean)) / 2.
    chance = -np.expm1(-2 * np.outer(_GUESSES, fractions) / BUCKETS) / 2
    likelihood = (odd * np.log(chance) + (BUCKETS - odd) * np.log1p(-chance)).sum(axis=1)
    return int(_GUESSES[int(np.argmax(likelihood))])


def _parities(own_items: Items) -> NDArray[np.uint8]:
    """Return uint8 [STRATA, BUCKETS], 1 where the items are odd in number."""
    # A bit at STRATA - 1 ends every run of zeros there: the last stratum holds all the rest.
    capped = own_items | np.uint64(1 << (STRATA - 1))
    lowest = capped & (~capped + np.uint64(1))
    stratum = np.log2(lowest.astype(np.float64)).astype(np.int64)
    bucket = (own_items >> _BUCKET_SHIFT).astype(np.int64)
    counts = np.bincount(stratum * BUCKETS + bucket, minlength=STRATA * BUCKETS)
    return (counts % 2).astype(np.uint8).reshape(STRATA, BUCKETS)
