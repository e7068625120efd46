"""Beats of a stretch of signal in about one byte each: how the times and classes of a ``BeatRun`` are written down.

Neighbouring RR intervals are much alike, so what is written is how each differs from the one before, and of the
classes only which beats are not normal, both as Rice codes (``rice_codes``): under 1 B a beat in sinus rhythm, about
1.3 B in atrial fibrillation. Pure; it deliberately keeps no amplitude and no shape: those are in the raw signal.

Layout: version (1 byte) || number of beats (varint) || time of the first, ms (varint) || Rice code of the zigzag
differences of successive RR intervals (the first differs from 0) || number of beats that are not normal (varint) ||
Rice code of 3 * (normal beats since the one before that is not) + class - 1.

Invariants:
    1. ``decode_beats(encode_beats(run))`` equals ``run``; a run has one encoding.
    2. Bytes that no run is encoded in raise ``RecordFormatError``, and nothing else is raised.
    3. Times are exact to the millisecond.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.results import BeatClass
from einthoven.rice_codes import decode_rice, decode_varint, encode_rice, encode_varint
from einthoven.store_values import MAX_BEATS_PER_RUN, BeatRun
from einthoven_protocol.limits import MAX_TIME_MS

BEATS_VERSION: Final = 1
"""First byte of a run; another layout, or another class, gets another number."""
MAX_BEAT_RUN_BYTES: Final = 2_000_000
"""Bytes of one run: what ``MAX_BEATS_PER_RUN`` beats at wild times take, and more than that is none."""

_OTHER_CLASSES: Final = len(BeatClass) - 1


def check_beats(beats: BeatRun) -> None:
    """Hold a run of beats to its limits.

    Raises:
        ValueError: Times and classes are not as ``BeatRun`` says, or there are none or more than
            ``MAX_BEATS_PER_RUN``.
    """
    at_ms, classes = beats.at_ms, beats.classes
    if at_ms.dtype != np.int64 or classes.dtype != np.uint8 or at_ms.ndim != 1 or at_ms.shape != classes.shape:
        raise ValueError("beats are int64 times and as many uint8 classes")
    if not 1 <= len(at_ms) <= MAX_BEATS_PER_RUN:
        raise ValueError(f"a run has 1 to {MAX_BEATS_PER_RUN} beats, not {len(at_ms)}")
    if (at_ms[1:] < at_ms[:-1]).any():
        raise ValueError("the times of beats do not descend")
    if at_ms[0] < 0 or at_ms[-1] > MAX_TIME_MS:
        raise ValueError(f"the times of beats are 0 to {MAX_TIME_MS} ms since 1970")
    if classes.max() >= len(BeatClass):
        raise ValueError("a beat has a class that this version has no name for")


def encode_beats(beats: BeatRun) -> bytes:
    """Return the stored bytes of a run.

    Raises:
        ValueError: See ``check_beats``.
    """
    check_beats(beats)
    differences = np.diff(np.diff(beats.at_ms), prepend=0)
    others = np.flatnonzero(beats.classes)
    normal_before = np.diff(others, prepend=-1) - 1
    symbols = normal_before * _OTHER_CLASSES + beats.classes[others] - 1
    return b"".join(
        (
            bytes([BEATS_VERSION]),
            encode_varint(len(beats.at_ms)),
            encode_varint(int(beats.at_ms[0])),
            encode_rice(_zigzag(differences)),
            encode_varint(len(others)),
            encode_rice(symbols.astype(np.uint64)),
        )
    )


def decode_beats(body: bytes) -> BeatRun:
    """Return the run that was stored.

    Raises:
        RecordFormatError: These bytes are no run of beats.
    """
    try:
        return _decoded(body)
    except ValueError as error:
        raise RecordFormatError(f"these are no beats ({error})", "check the store") from error


def _decoded(body: bytes) -> BeatRun:
    if not 0 < len(body) <= MAX_BEAT_RUN_BYTES or body[0] != BEATS_VERSION:
        raise ValueError("empty, too long, or of another version")
    count, at = decode_varint(body, 1)
    if not 1 <= count <= MAX_BEATS_PER_RUN:
        raise ValueError("too few or too many")
    first_ms, at = decode_varint(body, at)
    zigzag, at = decode_rice(body, at, count - 1)
    n_others, at = decode_varint(body, at)
    if n_others > count:
        raise ValueError("more classes than beats")
    symbols, at = decode_rice(body, at, n_others)
    if at != len(body):
        raise ValueError("bytes are left over")
    beats = BeatRun(_times(first_ms, zigzag), _classes(symbols, count))
    # Sums that ran over come out as times that can't be; only what encodes to these bytes was stored.
    if encode_beats(beats) != body:
        raise ValueError("not how it is written")
    beats.at_ms.flags.writeable = False
    beats.classes.flags.writeable = False
    return beats


def _times(first_ms: int, zigzag: NDArray[np.uint64]) -> NDArray[np.int64]:
    half = (zigzag >> np.uint64(1)).astype(np.int64)
    differences = np.where(zigzag & np.uint64(1), -half - 1, half)
    at_ms = np.empty(len(zigzag) + 1, np.int64)
    at_ms[0] = first_ms
    np.cumsum(np.cumsum(differences), out=at_ms[1:])
    at_ms[1:] += first_ms
    return at_ms


def _classes(symbols: NDArray[np.uint64], count: int) -> NDArray[np.uint8]:
    classes = np.zeros(count, np.uint8)
    normal_before = (symbols // np.uint64(_OTHER_CLASSES)).astype(np.int64)
    # Each step is held to the run's length, so that no sum of them can run over.
    if (normal_before >= count).any():
        raise ValueError("more beats than there are")
    others = np.cumsum(normal_before + 1) - 1
    if len(others) and others[-1] >= count:
        raise ValueError("more beats than there are")
    classes[others] = (symbols % np.uint64(_OTHER_CLASSES)).astype(np.uint8) + 1
    return classes


def _zigzag(differences: NDArray[np.int64]) -> NDArray[np.uint64]:
    return (differences << 1 ^ differences >> 63).astype(np.uint64)
