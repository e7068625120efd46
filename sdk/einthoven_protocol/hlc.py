"""Hybrid logical clock (Kulkarni et al. 2014, "Logical Physical Clocks"): 48 bits of milliseconds, 16 of count.

It deliberately reads no clock: callers say what time they think it is.

Invariants:
    1. What ``tick`` and ``receive`` return is greater than the ``last`` they were given.
    2. A remote time further ahead than ``limits.MAX_CLOCK_SKEW_MS`` counts as exactly that far ahead: one wrong clock
       can't drag the others with it.
    3. A count that runs over carries into the milliseconds; order is kept.
"""

from __future__ import annotations

from typing import Final

from einthoven_protocol import limits
from einthoven_protocol.errors import LimitExceeded

COUNT_BITS: Final = 16
_COUNT_MASK: Final = (1 << COUNT_BITS) - 1


def tick(last: int, now_ms: int) -> int:
    """Return the time of a new local write.

    Args:
        last: The last time this clock gave or saw, 0 at first.
        now_ms: Wall time, ms since 1970; wrong is allowed.

    Raises:
        LimitExceeded: The clock has run out (year 6429).
    """
    return _bounded(max(last + 1, _at(now_ms)))


def receive(last: int, remote: int, now_ms: int) -> int:
    """Return this clock's time after seeing a remote one.

    Args:
        last: The last time this clock gave or saw.
        remote: The time seen.
        now_ms: Wall time, ms since 1970.

    Raises:
        LimitExceeded: The clock has run out (year 6429).
    """
    return _bounded(max(last, min(remote, latest_believed(now_ms)), _at(now_ms)) + 1)


def latest_believed(now_ms: int) -> int:
    """Return the highest time that a remote clock may show without being clamped or refused."""
    return _at(now_ms + limits.MAX_CLOCK_SKEW_MS) | _COUNT_MASK


def hlc_ms(hlc: int) -> int:
    """Return the milliseconds since 1970 in a hybrid logical time."""
    return hlc >> COUNT_BITS


def _at(now_ms: int) -> int:
    return min(max(now_ms, 0), limits.MAX_TIME_MS) << COUNT_BITS


def _bounded(hlc: int) -> int:
    if hlc > limits.MAX_HLC:
        raise LimitExceeded("the hybrid logical clock has run out; set this machine's clock")
    return hlc
