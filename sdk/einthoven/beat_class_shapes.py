"""A beat's looks, in small integers: its complex, P and T wave against those of the person's dominant beats. Pure.

A ventricular beat looks unlike the dominant ones, wider, and its T wave points the other way; before a supraventricular
one the P wave is another one or elsewhere. It deliberately looks at no interval (``beat_class_times``).

Invariants:
    1. Every value is an integer; those out of [-127, 127] are limited by the caller.
    2. A signal turned upside down gives the same values: waves are signed so that the dominant complex is up.
    3. A signal twice as high gives the same values, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from einthoven import beat_class_rows as lines
from einthoven import beat_class_waves as waves
from einthoven.beat_class_rows import ALIKE, Crowd, Rows
from einthoven.beat_class_times import Numbers, contrast, mean_of, row_sums, share
from einthoven.beat_class_waves import LAGS, P_WAVE, QRS, QRS_BEFORE, UNIT
from einthoven.beat_features import LIMIT

T_WAVE: Final = slice(waves.BEFORE + 20, waves.BEFORE + 60)
COMPLEX: Final = slice(waves.BEFORE - QRS_BEFORE, waves.BEFORE - QRS_BEFORE + QRS)
LEAST_HEIGHT_UV: Final = 50
"""A smaller dominant complex counts as this."""
P_POOL: Final = 3
QRS_POOL: Final = 2
QRS_UNIT: Final = 8
"""A sum of ``QRS_POOL`` values of a unit complex is divided by this."""
_NEAR_PEAK = slice(waves.BEFORE - 6, waves.BEFORE + 7)
_SAME: Final = UNIT * UNIT
_LAGS = np.array(LAGS)
_EDGE: Final = 4
_RAMP = np.arange(P_WAVE.stop - P_WAVE.start, dtype=np.float64)
_LENGTH: Final = len(_RAMP) - _EDGE
_MIDDLE: Final = (_EDGE - 1) / 2
_ENDS = np.where(_RAMP < _EDGE, 1.0, 0.0), np.where(_RAMP >= _LENGTH, 1.0, 0.0)
# The line through the means of both ends, times _EDGE * _LENGTH: halves, so exact.
_LINE = np.outer(_ENDS[0], _LENGTH + _MIDDLE - _RAMP) + np.outer(_ENDS[1], _RAMP - _MIDDLE)
SUM_STEP: Final = 32
"""Beats whose dominant waves are summed in one matrix product."""


@dataclass(frozen=True, slots=True)
class _Dominant:
    """The mean of dominant beats, and the beats that are compared with it, the dominant complex up.

    ``template`` and ``wave`` float64 [k, WAVE]; ``unit`` float32 [k, QRS, 1] of the template as it was recorded;
    ``sign`` [k, 1]; ``height`` [k]; ``raw`` the template as it was recorded; ``p_own`` and ``p_usual`` the P waves of
    both, levelled.
    """

    template: Numbers
    wave: Numbers
    unit: NDArray[np.float32]
    sign: Numbers
    height: Numbers
    raw: Numbers
    p_own: Numbers
    p_usual: Numbers


def _dominant(crowd: Crowd, own: Rows) -> _Dominant:
    n = np.maximum(row_sums(crowd.dominant), 1)[:, None]
    total = _sums(crowd)
    template = np.rint(total / n)
    none = ~crowd.dominant.any(axis=1)
    template[none] = own.waves[none]
    peak = template[:, _NEAR_PEAK]
    sign = np.copysign(1.0, peak[np.arange(len(peak)), np.abs(peak).argmax(axis=1)])[:, None]
    complexes = template[:, COMPLEX]
    centred = complexes - np.rint(row_sums(complexes)[:, None] / QRS)
    length = np.sqrt(np.maximum(row_sums(centred * centred)[:, None], 1))
    unit = np.rint(centred * UNIT / length).astype(np.float32)[:, :, None]
    height = np.maximum(complexes.max(axis=1) - complexes.min(axis=1), LEAST_HEIGHT_UV)
    wave, upright = own.waves * sign, template * sign
    p_waves = levelled(wave[:, P_WAVE]), levelled(upright[:, P_WAVE])
    return _Dominant(upright, wave, unit, sign, height, template, *p_waves)


def _sums(crowd: Crowd) -> Numbers:
    """Sum of the dominant waves, [k, WAVE]: exact in float32, being at most 24 waves below 2**15."""
    n = len(crowd.index)
    total = np.empty((n, waves.WAVE))
    for start in range(0, n, SUM_STEP):
        index = crowd.index[start : start + SUM_STEP]
        first = int(index[0, 0])
        weights = np.zeros((len(index), int(index[-1, -1]) + 1 - first), np.float32)
        np.put_along_axis(weights, index - first, crowd.dominant[start : start + SUM_STEP].astype(np.float32), axis=1)
        total[start : start + SUM_STEP] = weights @ crowd.rows.waves[first : first + weights.shape[1]]
    return total


def _at_lags(rows: Rows, unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products of unit complexes at each lag, float32 [k, LAGS]."""
    return np.asarray(np.matmul(rows.units.reshape(len(rows), len(LAGS), QRS), unit)[:, :, 0])


def _fine(product: NDArray[np.float32]) -> Numbers:
    """Likeness: 127 for the same, 0 for a correlation of one half, limited below."""
    return np.rint((product.astype(np.float64) - _SAME // 2) * 2 * LIMIT / _SAME)


def extract(
    own: Rows, before: Rows, following: Rows, after: NDArray[np.bool_], near: Crowd, far: Crowd
) -> list[Numbers]:
    """Describe beats by their looks.

    Args:
        own: The beats, [k].
        before: The row before each.
        following: The row after each.
        after: bool [k], whether that is the next beat.
        near: The beats just before each.
        far: Those that are kept longer.

    Returns:
        Columns float64 [k].
    """
    mine, old = _dominant(near, own), _dominant(far, own)
    at_lag = _at_lags(own, mine.unit)
    best = at_lag.max(axis=1)
    with_next = _at_lags(following, own.units[:, :QRS, None]).max(axis=1)
    alike = (near.likeness >= ALIKE) & near.known
    far_alike = (far.likeness >= ALIKE) & far.known
    return [
        _fine(best),
        np.rint((best.astype(np.float64) - 9 * _SAME // 10) * 10 * LIMIT / _SAME),
        _LAGS[at_lag.argmax(axis=1)] * 16.0,
        _fine(_at_lags(own, old.unit).max(axis=1)),
        _fine(near.likeness[:, -1]),
        _fine(near.likeness[:, -2]),
        _fine(with_next) * after,
        _fine(_at_lags(following, mine.unit).max(axis=1)) * after,
        _fine(_at_lags(before, mine.unit).max(axis=1)),
        _fine(near.likeness.max(axis=1)),
        _fine(far.likeness.max(axis=1)),
        share(row_sums(alike), row_sums(near.known)),
        share(row_sums(far_alike), row_sums(far.known)),
        share(row_sums(alike & near.dominant), row_sums(near.dominant)),
        share(row_sums(near.dominant), row_sums(near.known)),
        share(row_sums(far.dominant), row_sums(far.known)),
        *_sizes(own, mine, old, near, far, alike),
        *_against(mine),
        *_against(old),
        *_p_waves(own, mine, near),
        *_complexes(own.units[:, :QRS] * mine.sign),
        *_complexes(mine.unit[:, :, 0] * mine.sign),
        own.numbers[:, lines.SCORE] - 128,
    ]


def _sizes(
    own: Rows, mine: _Dominant, old: _Dominant, near: Crowd, far: Crowd, alike: NDArray[np.bool_]
) -> list[Numbers]:
    """Height, area and width, and those of dominant beats."""
    none, far_none = ~near.dominant.any(axis=1), ~far.dominant.any(axis=1)

    def usual(column: int) -> Numbers:
        return np.where(none, own.numbers[:, column], mean_of(near.column(column), near.dominant))

    def far_usual(column: int) -> Numbers:
        return np.where(far_none, own.numbers[:, column], mean_of(far.column(column), far.dominant))

    height, area, spread, extent, roughness, positive, negative = (own.numbers[:, i] for i in range(7))
    up = np.where(mine.sign[:, 0] > 0, positive, -negative)
    down = np.where(mine.sign[:, 0] > 0, negative, -positive)
    usual_height, usual_spread, usual_roughness = usual(waves.HEIGHT), usual(waves.SPREAD), usual(waves.ROUGHNESS)
    own_kind = np.where(alike.any(axis=1), mean_of(near.column(waves.SPREAD), alike), spread)
    return [
        contrast(height, usual_height),
        contrast(height, far_usual(waves.HEIGHT)),
        contrast(area, usual(waves.AREA)),
        contrast(area, far_usual(waves.AREA)),
        contrast(spread, usual_spread, 4 * LIMIT),
        contrast(spread, far_usual(waves.SPREAD), 4 * LIMIT),
        contrast(extent, usual(waves.EXTENT)),
        spread - 64,
        usual_spread - 64,
        own_kind - usual_spread,
        extent * 4 - 50,
        np.rint(area * 8 / height) - 60,
        np.rint(usual(waves.AREA) * 8 / usual_height) - 60,
        np.rint(up * 64 / mine.height),
        np.rint(down * 64 / mine.height),
        contrast(roughness + 1, usual_roughness + 1),
        np.rint(usual_roughness * 8 / usual_height),
        contrast(mine.height, old.height),
    ]


def _correlation(left: Numbers, right: Numbers) -> Numbers:
    """Correlation of waves [k, n] in 1/127; 0 where one is flat."""
    a = left - np.rint(row_sums(left)[:, None] / left.shape[1])
    b = right - np.rint(row_sums(right)[:, None] / right.shape[1])
    length = np.sqrt(np.maximum(row_sums(a * a), 1)) * np.sqrt(np.maximum(row_sums(b * b), 1))
    return np.asarray(np.rint(row_sums(a * b) * LIMIT / length))


def _against(dominant: _Dominant) -> list[Numbers]:
    """T and P wave against the dominant ones."""
    p_own, p_usual = dominant.p_own, dominant.p_usual
    power = np.maximum(row_sums(p_usual * p_usual), 1)
    difference = p_own - p_usual
    left = np.sqrt(row_sums(difference * difference))
    return [
        _correlation(dominant.wave[:, T_WAVE], dominant.template[:, T_WAVE]),
        _correlation(dominant.wave[:, P_WAVE], dominant.template[:, P_WAVE]),
        np.rint(row_sums(p_own * p_usual) * 64 / power),
        np.rint(left * 64 / dominant.height),
        np.rint(left * 32 / np.sqrt(power)),
    ]


def _p_waves(own: Rows, mine: _Dominant, near: Crowd) -> list[Numbers]:
    """Whether there is a P wave at all, what it looks like, where the T wave points."""
    p_own, p_usual = mine.p_own, mine.p_usual
    # How alike the P waves of dominant beats are: power of their mean against their mean power.
    mean_square = np.maximum(mean_of(near.column(waves.P_SQUARE), near.dominant), 1)
    template = mine.raw[:, P_WAVE]
    coherence = np.minimum(row_sums(template * template) / mean_square, 1) * near.dominant.any(axis=1)
    pooled = np.rint(_pooled(p_own - p_usual, P_POOL) * 64 / mine.height[:, None])
    usual = np.rint(_pooled(p_usual, P_POOL) * 64 / mine.height[:, None])
    return [
        np.rint(coherence * LIMIT),
        np.rint(np.maximum(p_usual.max(axis=1), 0) * 400 / mine.height),
        np.rint(row_sums(mine.wave[:, T_WAVE]) * 4 / mine.height),
        np.rint(row_sums(mine.template[:, T_WAVE]) * 4 / mine.height),
        *pooled.T,
        *usual.T,
    ]


def _complexes(units: Numbers) -> list[Numbers]:
    """The complex itself, in ``QRS_POOL`` samples each."""
    return [*np.rint(_pooled(units, QRS_POOL) / QRS_UNIT).T]


def _pooled(values: Numbers, width: int) -> Numbers:
    """Sums of ``width`` neighbours each."""
    total = values[:, ::width] + values[:, 1::width]
    for i in range(2, width):
        total = total + values[:, i::width]
    return np.asarray(total)


def levelled(values: Numbers) -> Numbers:
    """Take the line through both ends (means of four samples) off: what the T wave before leaves counts less."""
    return np.asarray(values - np.rint(values @ _LINE / (_EDGE * _LENGTH)))
