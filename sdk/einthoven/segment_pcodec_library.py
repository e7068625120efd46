"""pcodec, kept at arm's length: numbers to bytes and back, and its failures in our own errors. Pure.

It deliberately decides nothing about ECG but which predictions to try. pcodec (https://github.com/pcodec/pcodec) is
Rust behind Python; a panic in it arrives as a ``BaseException`` that is none of Python's own.

Invariants:
    1. Only ``RecordFormatError`` and ``PcodecUnavailable`` leave this module, whatever pcodec does.
    2. Nothing larger than the array to be filled is decompressed.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.segment_fields import damaged

CONVOLUTION_NUMBERS: Final = 1_024
"""From here on a convolution is worth its weights."""
SHORT_PLAN: Final = (8, 8)
LONG_PLAN: Final = (32, 12)
"""Order of the convolution, and pcodec's level, for short and for long arrays."""
LONG_PLAN_NUMBERS: Final = 20_000
"""From here on the long plan pays: 4.13 bits a sample instead of 4.16 in blocks of 120,000 (mitdb)."""
_BATCH: Final = 256
_ONE_BATCH_PAGE: Final = 512


class PcodecUnavailable(Exception):
    """pcodec is not installed, or does not give some numbers back; to be stored another way."""


def compress(numbers: NDArray[np.int16] | NDArray[np.int32]) -> bytes:
    """Return the shortest pcodec file of those tried.

    Args:
        numbers: int16 or int32 [n], contiguous.

    Raises:
        PcodecUnavailable: pcodec is not installed, or fails.
    """
    try:
        pcodec = _library()
        files: list[bytes] = [pcodec.standalone.simple_compress(numbers, plan) for plan in _plans(pcodec, numbers)]
    except ImportError as problem:
        raise PcodecUnavailable("pcodec is not installed") from problem
    except BaseException as problem:
        if _ours_to_pass_on(problem):
            raise
        raise PcodecUnavailable("pcodec can't encode these numbers") from problem
    return min(files, key=len)


def decompress_into(numbers: NDArray[np.int16] | NDArray[np.int32], file: bytes) -> None:
    """Fill an array from a pcodec file that holds exactly as many numbers.

    Raises:
        RecordFormatError: The file is damaged, or pcodec is not installed.
    """
    try:
        progress = _library().standalone.simple_decompress_into(file, numbers)
    except ImportError as problem:
        raise RecordFormatError(
            "this segment needs the library pcodec", "install it, or read the record on another machine"
        ) from problem
    except BaseException as problem:
        if _ours_to_pass_on(problem):
            raise
        raise damaged("its body can't be decompressed") from problem
    if not progress.finished or progress.n_processed != len(numbers):
        raise damaged("its length is not the one it claims")


def _library() -> ModuleType:
    # Imported when first needed: a machine that has no wheel of it (32-bit ARM) still writes and reads codec 1.
    return importlib.import_module("pcodec")


def _plans(pcodec: Any, numbers: NDArray[np.int16] | NDArray[np.int32]) -> list[Any]:
    """What to try: second differences and a fitted convolution; on few numbers, whatever pcodec chooses."""
    n = len(numbers)
    classic = pcodec.ModeSpec.classic()
    order, level = LONG_PLAN if n >= LONG_PLAN_NUMBERS else SHORT_PLAN
    if n < CONVOLUTION_NUMBERS:
        return [pcodec.ChunkConfig(compression_level=level, mode_spec=classic)]
    plans = [pcodec.DeltaSpec.try_consecutive(2)]
    # pcodec 1.1.0 panics if its last batch has fewer numbers than the convolution is long.
    if n <= _ONE_BATCH_PAGE or not 0 < n % _BATCH < order:
        plans.append(pcodec.DeltaSpec.try_conv1(order))
    return [pcodec.ChunkConfig(compression_level=level, mode_spec=classic, delta_spec=delta) for delta in plans]


def _ours_to_pass_on(problem: BaseException) -> bool:
    """Whether an exception is not pcodec's: the user's interrupt, the interpreter's end, no memory."""
    return isinstance(problem, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError))
