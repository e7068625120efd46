"""Counts coded by how much goes on: quiet stretches, waves and complexes each with numbers of their own. Pure.

A heartbeat is a tenth of a second of large second differences and most of a second of small ones. Coded together, the
large ones cost the small ones bits. So counts are cut into short stretches, a stretch is put into one of three classes
by the sum of its differences' sizes, and second differences of each class are coded by themselves. On recordings of a
single lead (cinc2017) that takes 6 % less than coding them together, for one number more a stretch.

Coded: length of a stretch, first two counts (signed), then bare pcodec chunks: classes of stretches, two
to a number, and the second differences of each class that occurs, the last stretch filled up with zeros. Differences
are taken modulo 2**16.

It deliberately does not judge whether this is the shorter way; ``segment_pcodec`` does.

Invariants:
    1. ``decode_by_activity(encode_by_activity(c), len(c))`` equals ``c`` for every int16 value.
    2. ``decode_by_activity`` raises only ``RecordFormatError``, and allocates in proportion to ``n`` only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.segment_fields import FieldReader, damaged, folded, varints
from einthoven.segment_pcodec_library import ChunkReader, chunks

STRETCH_NUMBERS: Final = 10
"""Counts in a stretch: 33 ms at 300 Hz. 8 take as much, 16 take 0.8 % more."""
CLASSES: Final = 3
"""Two take 1.5 % more, four 1 %."""
QUIET_PERCENT: Final = 70
BUSY_PERCENT: Final = 92
"""Below and above these shares of the stretches, by activity, begin the first class and the last."""
DECIDED_CONTRAST: Final = 5
"""Where the busiest stretches are this many times as active as the quietest, no other way is shorter but once in a
thousand bytes (cinc2017, mitdb, qtdb), so none needs trying."""
LEAST_NUMBERS: Final = 1_024
"""Fewer don't repay three sets of numbers."""

_STILL_PERCENT: Final = 10
_ROUNDING: Final = STRETCH_NUMBERS // 2
"""Activity that rounding to counts makes of nothing: half a count a number."""
_MAX_STRETCH: Final = 255
_INT16: Final = 2**15


def encode_by_activity(counts: NDArray[np.int16]) -> tuple[bytes, bool]:
    """Code counts, int16 [n] with n from ``LEAST_NUMBERS``.

    Returns:
        The coded counts, and whether this is decidedly the shortest way.

    Raises:
        PcodecUnavailable: pcodec is not installed, or fails.
    """
    n = len(counts)
    stretches = np.zeros((-(-n // STRETCH_NUMBERS), STRETCH_NUMBERS), np.int16)
    second = stretches.reshape(-1)
    # Modulo 2**16 on purpose, as on the way back.
    np.subtract(counts[2:], counts[1:-1], out=second[2:n])
    second[2:n] -= counts[1:-1]
    second[2:n] += counts[:-2]
    classes, decided = _classes(stretches)
    pairs = np.zeros(len(classes) + 1 & ~1, np.int16)
    pairs[: len(classes)] = classes
    members = (stretches[classes == one].reshape(-1) for one in range(CLASSES))
    coded = chunks([pairs[::2] * CLASSES + pairs[1::2], *(each for each in members if len(each))])
    return varints([STRETCH_NUMBERS, folded(int(counts[0])), folded(int(counts[1]))]) + coded, decided


def _classes(stretches: NDArray[np.int16]) -> tuple[NDArray[np.int8], bool]:
    """The class of each stretch, int8 [k], and whether they differ as much as ``DECIDED_CONTRAST`` says."""
    activity = np.abs(stretches, dtype=np.int32).sum(axis=1)
    ranks = [len(activity) * percent // 100 for percent in (_STILL_PERCENT, QUIET_PERCENT, BUSY_PERCENT)]
    still, quiet, busy = np.partition(activity, ranks)[ranks].tolist()
    classes = (activity > quiet).astype(np.int8)
    classes += activity > busy
    return classes, busy + _ROUNDING > DECIDED_CONTRAST * (still + _ROUNDING)


def decode_by_activity(fields: FieldReader, n: int) -> NDArray[np.int16]:
    """Return int16 [n] counts, n at least 2, from all the bytes that are left.

    Raises:
        RecordFormatError: They are damaged, or pcodec is not installed.
    """
    stretch = fields.varint(_MAX_STRETCH)
    first, then = fields.signed(_INT16), fields.signed(_INT16)
    if not stretch or n < 2 or not all(-_INT16 <= count < _INT16 for count in (first, then)):
        raise damaged("its stretches don't add up")
    n_stretches = -(-n // stretch)
    pairs = np.empty(-(-n_stretches // 2), np.int16)
    reader = ChunkReader(fields.rest())
    reader.read(pairs)
    if pairs.min() < 0 or pairs.max() >= CLASSES**2:
        raise damaged("a stretch in it is of no known class")
    classes = np.stack(np.divmod(pairs, CLASSES), axis=1).reshape(-1)[:n_stretches]
    stretches = np.empty((n_stretches, stretch), np.int16)
    for one in range(CLASSES):
        places = np.flatnonzero(classes == one)
        members = np.empty((len(places), stretch), np.int16)
        if len(places):
            reader.read(members.reshape(-1))
            stretches[places] = members
    if reader.rest:
        raise damaged("it goes on after its end")
    second = stretches.reshape(-1)[:n]
    second[0] = first
    second[1] = (then - 2 * first + _INT16) % 2**16 - _INT16
    return np.asarray(np.cumsum(np.cumsum(second, dtype=np.int16), dtype=np.int16))
