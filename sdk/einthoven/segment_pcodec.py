"""Samples as one pcodec block: the source's own counts, with what is no signal coded apart. Pure.

Block: how (uint8), number of runs, runs (samples since the last run, its length, its value as distance from
``MISSING_UV``), then by ``how``: 0 all samples are in runs; 1 the others are one value (signed); 2, 3 the others lie
on a grid (numerator, denominator, origin signed, rounding), and their counts, int16 or int32, are the pcodec file that
fills the rest; 4 they lie on a grid, and their counts, int16, are coded by ``segment_activity``. All numbers are
varints (``segment_fields``).

A run is a stretch of one value that is missing, off the grid, or too far from the rest for int16: a lost packet or an
amplifier's rail. Coded with the others it would spoil their prediction and widen their range.

It deliberately has no checksum: its callers verify theirs before a native decoder sees a byte. Prediction is pcodec's
own, second differences or a convolution fitted to the block, or differences by activity, whichever comes out shorter.

Invariants:
    1. ``decode_block(encode_block(s), len(s))`` equals ``s``, bit for bit, for every int32 value.
    2. ``decode_block`` raises only ``RecordFormatError``, and allocates in proportion to ``n_samples`` only.
    3. ``encode_block`` returns nothing that it has not decoded again and compared.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import RecordFormatError
from einthoven.ports import MISSING_UV
from einthoven.segment_activity import LEAST_NUMBERS, decode_by_activity, encode_by_activity
from einthoven.segment_fields import FieldReader, damaged, folded, varints
from einthoven.segment_grid import MAX_DENOMINATOR, Grid, find_grid
from einthoven.segment_pcodec_library import PcodecUnavailable, compress, decompress_into

SAMPLES_A_RUN: Final = 16
"""Runs are coded apart if there is one in so many samples at most; more of them go with the others."""

BY_ACTIVITY: Final = 4
"""First byte of a block that is coded by activity: readers from before there was such a way refuse it."""

_ALL_APART, _ONE_VALUE, _COUNTS_16, _COUNTS_32 = range(BY_ACTIVITY)
_MAX_UINT32: Final = 2**32 - 1
_MAX_ORIGIN: Final = 2**44
_INT16_SPAN: Final = 2**16 - 1


def encode_block(samples_uv: NDArray[np.int32], *, by_activity: bool = False) -> bytes:
    """Return the block for int32 [n] samples.

    Args:
        samples_uv: Any.
        by_activity: Whether it may be coded by activity, where that is shorter.

    Raises:
        PcodecUnavailable: pcodec is not installed, or does not give these samples back.
    """
    block = _encoded(samples_uv.astype(np.int64), by_activity)
    try:
        proven = np.array_equal(decode_block(block, len(samples_uv), by_activity=by_activity), samples_uv)
    except RecordFormatError:
        proven = False
    if not proven:
        raise PcodecUnavailable("pcodec does not give the samples back")
    return block


def decode_block(block: bytes, n_samples: int, *, by_activity: bool = False) -> NDArray[np.int32]:
    """Return int32 [n_samples] from a block.

    Raises:
        RecordFormatError: It is damaged, or pcodec is not installed.
    """
    if not block:
        raise damaged("it ends too early")
    how, fields = block[0], FieldReader(block, 1)
    if how > (BY_ACTIVITY if by_activity else _COUNTS_32):
        raise damaged("its body is of no known kind")
    samples_uv = np.empty(n_samples, np.int32)
    apart = _read_runs(fields, samples_uv)
    n_kept = n_samples if apart is None else n_samples - int(np.count_nonzero(apart))
    if (n_kept == 0) != (how == _ALL_APART):
        raise damaged("its runs don't add up")
    if how == _ALL_APART:
        kept = np.empty(0, np.int32)
    elif how == _ONE_VALUE:
        kept = _samples(Grid(), np.full(n_kept, fields.signed(2**31), np.int64))
    else:
        grid = _read_grid(fields)
        kept = _samples(grid, _read_counts(how, fields, n_kept))
    if how < _COUNTS_16 and fields.rest():
        raise damaged("it goes on after its end")
    if apart is None:
        return kept
    samples_uv[~apart] = kept
    return samples_uv


def _read_counts(how: int, fields: FieldReader, n: int) -> NDArray[np.int16] | NDArray[np.int32]:
    if how == BY_ACTIVITY:
        return decode_by_activity(fields, n)
    counts = np.empty(n, np.int16) if how == _COUNTS_16 else np.empty(n, np.int32)
    decompress_into(counts, fields.rest())
    return counts


def _samples(grid: Grid, counts: NDArray[np.int16] | NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int32]:
    """Microvolts of counts, at least one, int32 [n].

    Raises:
        RecordFormatError: One of them does not fit.
    """
    outermost = np.array([counts.min(), counts.max()], np.int64)
    # Samples rise with counts, so the outermost tell whether all fit.
    lowest, highest = grid.samples(outermost).tolist()
    if lowest < -(2**31) or highest >= 2**31:
        raise damaged("a sample in it is out of range")
    parts = (grid.numerator, grid.origin, *(outermost * grid.numerator).tolist())
    if grid.denominator == 1 and min(parts) >= -(2**31) and max(parts) < 2**31:
        # The same in half the width: product, origin and sum all fit.
        samples_uv = counts.astype(np.int32)
        samples_uv *= np.int32(grid.numerator)
        samples_uv += np.int32(grid.origin)
        return samples_uv
    return grid.samples(counts.astype(np.int64)).astype(np.int32)


def _encoded(wide: NDArray[np.int64], by_activity: bool) -> bytes:
    apart, grid, kept = _split(wide)
    runs = _written_runs(wide, apart)
    if not len(kept):
        return bytes([_ALL_APART]) + runs
    lowest, highest = int(kept.min()), int(kept.max())
    if lowest == highest:
        return bytes([_ONE_VALUE]) + runs + varints([folded(lowest)])
    counts = kept if grid == Grid() else grid.counts(kept)
    # Counts rise with samples. Half of their span lies on either side, so that 2**16 fit int16, and any samples int32.
    first, last = grid.counts(np.array([lowest, highest])).tolist()
    middle = (first + last + 1) // 2
    centred, grid = counts - middle, grid.centred(middle)
    fields = varints([grid.numerator, grid.denominator, folded(grid.origin), grid.half_even])
    if last - middle >= 2**15:
        return bytes([_COUNTS_32]) + runs + fields + compress(centred.astype(np.int32))
    how, coded = _coded(centred.astype(np.int16), by_activity)
    return bytes([how]) + runs + fields + coded


def _coded(counts: NDArray[np.int16], by_activity: bool) -> tuple[int, bytes]:
    """The shortest form of int16 counts, and which it is."""
    if not by_activity or len(counts) < LEAST_NUMBERS:
        return _COUNTS_16, compress(counts)
    apart, decided = encode_by_activity(counts)
    if decided:
        return BY_ACTIVITY, apart
    # Second differences all together are hardly ever shorter than those by activity: 0.1 % of the bytes.
    together = compress(counts, differences=False)
    return (BY_ACTIVITY, apart) if len(apart) < len(together) else (_COUNTS_16, together)


def _split(wide: NDArray[np.int64]) -> tuple[NDArray[np.bool_] | None, Grid, NDArray[np.int64]]:
    """What to code apart (bool [n]), and the grid of the others with their values (int64 [n - apart])."""
    apart = _if_rare(wide == MISSING_UV, wide) if len(wide) and wide.min() == MISSING_UV else None
    kept = wide if apart is None else wide[~apart]
    grid = find_grid(kept) if len(kept) else Grid()
    if grid != Grid():
        held = grid.holds(kept)
        if not held.all():
            off_grid = _widened(apart, ~held, wide)
            apart, grid = (apart, Grid()) if off_grid is None else (off_grid, grid)
            kept = wide if apart is None else wide[~apart]
    if len(kept) and (int(kept.max()) - int(kept.min())) * grid.denominator > _INT16_SPAN * grid.numerator:
        far = np.abs(kept - int(np.median(kept))) * grid.denominator >= 2**15 * grid.numerator
        outlying = _widened(apart, far, wide)
        if outlying is not None:
            apart, kept = outlying, wide[~outlying]
    return apart, grid, kept


def _widened(
    apart: NDArray[np.bool_] | None, more: NDArray[np.bool_], wide: NDArray[np.int64]
) -> NDArray[np.bool_] | None:
    """``apart`` and, of the others, ``more``; ``None`` if those are too many runs."""
    if apart is None:
        return _if_rare(more, wide)
    both = apart.copy()
    both[~apart] = more
    return _if_rare(both, wide)


def _if_rare(apart: NDArray[np.bool_], wide: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """``apart`` if it holds samples, and in few enough runs to be coded apart."""
    if not apart.any():
        return None
    return apart if len(_run_starts(apart, wide)) <= max(1, len(wide) // SAMPLES_A_RUN) else None


def _run_starts(apart: NDArray[np.bool_], wide: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where a stretch of equal samples that are apart begins, int64 [k]."""
    starts = apart.copy()
    starts[1:] &= ~apart[:-1] | (wide[1:] != wide[:-1])
    return np.flatnonzero(starts)


def _written_runs(wide: NDArray[np.int64], apart: NDArray[np.bool_] | None) -> bytes:
    if apart is None:
        return varints([0])
    starts = _run_starts(apart, wide)
    ends = np.flatnonzero(apart & np.append(~apart[1:] | (wide[1:] != wide[:-1]), True)) + 1
    fields = [len(starts)]
    before = 0
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        fields += (start - before, end - start, int(wide[start]) - MISSING_UV)
        before = end
    return varints(fields)


def _read_runs(fields: FieldReader, samples_uv: NDArray[np.int32]) -> NDArray[np.bool_] | None:
    """Fill the runs in; return where they are, bool [n], or ``None`` if there are none."""
    n_samples = len(samples_uv)
    n_runs = fields.varint(max(1, n_samples // SAMPLES_A_RUN))
    if n_runs == 0:
        return None
    apart = np.zeros(n_samples, np.bool_)
    position = 0
    for _ in range(n_runs):
        position += fields.varint(n_samples - position)
        length = fields.varint(n_samples - position)
        apart[position : position + length] = True
        samples_uv[position : position + length] = fields.varint(_MAX_UINT32) + MISSING_UV
        position += length
    return apart


def _read_grid(fields: FieldReader) -> Grid:
    numerator, denominator = fields.varint(_MAX_UINT32), fields.varint(MAX_DENOMINATOR)
    origin, half_even = fields.signed(_MAX_ORIGIN), fields.varint(1)
    if numerator == 0 or denominator == 0:
        raise damaged("its step is not positive")
    return Grid(numerator, denominator, origin, bool(half_even))
