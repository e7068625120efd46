"""What the beat classifier's network sees of a beat: itself against the person's own recent beats. Pure.

A premature beat is one that comes early for this heart, a ventricular one looks unlike the others: so a person's own
last minutes are the measure (``beat_class_rows``), of times (``beat_class_times``) and of looks
(``beat_class_shapes``). It deliberately knows no weights (``beat_class_tables``).

Invariants:
    1. Every value is an integer in [-127, 127].
    2. The values of a beat depend on the ``NEAR`` beats before it, ``FAR`` earlier ones, itself, and on the next one
       within ``NEXT_TICKS``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_class_shapes, beat_class_times
from einthoven.beat_class_rows import NEAR, TICKS, Rows, crowd, far_index
from einthoven.beat_features import LIMIT

FEATURES: Final = 149


def extract(rows: Rows, far: Rows, n: int, after: NDArray[np.bool_], first_number: int) -> NDArray[np.float32]:
    """Describe ``n`` beats.

    Args:
        rows: ``NEAR`` beats, then those to describe, then any number.
        far: The beats that are kept longer: ``FAR`` from before the first to describe, then those since.
        n: How many to describe.
        after: bool [n], whether the row after each is the next beat within ``NEXT_TICKS``.
        first_number: Number in the recording of the first to describe.

    Returns:
        float32 [n, FEATURES], integers in [-127, 127].
    """
    places = np.arange(NEAR, NEAR + n)
    own = rows.part(slice(NEAR, NEAR + n))
    following = rows.part(np.minimum(places + 1, len(rows) - 1))
    near_index = places[:, None] + np.arange(-NEAR, 0)
    close = crowd(rows, near_index, own.near, rows.near)
    distant = crowd(far, far_index(first_number, n), own.far, far.far)
    columns = [
        *beat_class_times.extract(own.numbers, following.numbers[:, TICKS], after, close, distant),
        *beat_class_shapes.extract(own, rows.part(slice(NEAR - 1, NEAR - 1 + n)), following, after, close, distant),
    ]
    joined = np.stack(columns, axis=1)
    np.maximum(np.minimum(joined, LIMIT, out=joined), -LIMIT, out=joined)
    return joined.astype(np.float32)
