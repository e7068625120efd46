"""pcodec, kept at arm's length: numbers to bytes and back, and its failures in our own errors. Pure.

It deliberately decides nothing about ECG but which predictions to try. pcodec (https://github.com/pcodec/pcodec) is
Rust behind Python; a panic in it arrives as a ``BaseException`` that is none of Python's own.

Invariants:
    1. Only ``RecordFormatError`` and ``PcodecUnavailable`` leave this module, whatever pcodec does.
    2. Nothing larger than the array to be filled is decompressed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
MAX_CHUNK_NUMBERS: Final = 2**18
"""Numbers in a bare chunk: pcodec's own largest page."""
_BATCH: Final = 256
_ONE_BATCH_PAGE: Final = 512


class PcodecUnavailable(Exception):
    """pcodec is not installed, or does not give some numbers back; to be stored another way."""


def compress(numbers: NDArray[np.int16] | NDArray[np.int32], *, differences: bool = True) -> bytes:
    """Return the shortest pcodec file of those tried.

    Args:
        numbers: int16 or int32 [n], contiguous.
        differences: Whether to try second differences also where a convolution can be tried.

    Raises:
        PcodecUnavailable: pcodec is not installed, or fails.
    """
    try:
        pcodec = _library()
        files: list[bytes] = [
            pcodec.standalone.simple_compress(numbers, plan) for plan in _plans(pcodec, numbers, differences)
        ]
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
    with _decoding():
        progress = _library().standalone.simple_decompress_into(file, numbers)
    if not progress.finished or progress.n_processed != len(numbers):
        raise damaged("its length is not the one it claims")


def chunks(arrays: Iterable[NDArray[np.int16]]) -> bytes:
    """Return arrays as bare pcodec chunks one after another, without a prediction; their lengths are left out.

    Args:
        arrays: int16 [n] each, contiguous, n from 1 to ``MAX_CHUNK_NUMBERS``.

    Raises:
        PcodecUnavailable: pcodec is not installed, or fails.
    """
    try:
        pcodec = _library()
        config = pcodec.ChunkConfig(
            compression_level=SHORT_PLAN[1],
            mode_spec=pcodec.ModeSpec.classic(),
            delta_spec=pcodec.DeltaSpec.no_op(),
            paging_spec=pcodec.PagingSpec.equal_pages_up_to(MAX_CHUNK_NUMBERS),
        )
        file = pcodec.wrapped.FileCompressor()
        written: list[bytes] = [file.write_header()]
        for numbers in arrays:
            compressor = file.chunk_compressor(numbers, config)
            written += (compressor.write_meta(), compressor.write_page(0))
    except ImportError as problem:
        raise PcodecUnavailable("pcodec is not installed") from problem
    except BaseException as problem:
        if _ours_to_pass_on(problem):
            raise
        raise PcodecUnavailable("pcodec can't encode these numbers") from problem
    return b"".join(written)


class ChunkReader:
    """Reads what ``chunks`` wrote, array by array.

    Args:
        stored: All the bytes.

    Attributes:
        rest: What was not read yet.

    Raises:
        RecordFormatError: They are damaged, or pcodec is not installed.
    """

    def __init__(self, stored: bytes) -> None:
        with _decoding():
            self._file, used = _library().wrapped.FileDecompressor.new(stored)
            self.rest = stored[used:]

    def read(self, numbers: NDArray[np.int16]) -> None:
        """Fill an array, int16 [n] with n from 1, from the next chunk.

        Raises:
            RecordFormatError: It is damaged.
        """
        with _decoding():
            page, used = self._file.chunk_decompressor(self.rest, "i16")
            body = self.rest[used:]
            progress, used = page.read_page_into(body, len(numbers), numbers)
            self.rest = body[used:]
        if not progress.finished or progress.n_processed != len(numbers):
            raise damaged("its length is not the one it claims")


@contextmanager
def _decoding() -> Iterator[None]:
    """pcodec's failures to decode, in our words."""
    try:
        yield
    except ImportError as problem:
        raise RecordFormatError(
            "this segment needs the library pcodec", "install it, or read the record on another machine"
        ) from problem
    except BaseException as problem:
        if _ours_to_pass_on(problem):
            raise
        raise damaged("its body can't be decompressed") from problem


def _library() -> ModuleType:
    # Imported when first needed: a machine that has no wheel of it (32-bit ARM) still writes and reads codec 1.
    return importlib.import_module("pcodec")


def _plans(pcodec: Any, numbers: NDArray[np.int16] | NDArray[np.int32], differences: bool) -> list[Any]:
    """What to try: second differences and a fitted convolution; on few numbers, whatever pcodec chooses."""
    n = len(numbers)
    classic = pcodec.ModeSpec.classic()
    order, level = LONG_PLAN if n >= LONG_PLAN_NUMBERS else SHORT_PLAN
    if n < CONVOLUTION_NUMBERS:
        return [pcodec.ChunkConfig(compression_level=level, mode_spec=classic)]
    plans = []
    # pcodec 1.1.0 panics if its last batch has fewer numbers than the convolution is long.
    if n <= _ONE_BATCH_PAGE or not 0 < n % _BATCH < order:
        plans.append(pcodec.DeltaSpec.try_conv1(order))
    if differences or not plans:
        plans.append(pcodec.DeltaSpec.try_consecutive(2))
    return [pcodec.ChunkConfig(compression_level=level, mode_spec=classic, delta_spec=delta) for delta in plans]


def _ours_to_pass_on(problem: BaseException) -> bool:
    """Whether an exception is not pcodec's: the user's interrupt, the interpreter's end, no memory."""
    return isinstance(problem, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError))
