"""When may the next exchange run? Pure: the caller says what waits, what state the device is in, and what time it is.

It deliberately measures nothing (battery, network), draws no chance and keeps no state: the same arguments give the
same answer, so that a platform's own scheduler can ask as well as ``watching``.

Invariants:
    1. What is more urgent never waits longer, and neither does a device that is better supplied.
    2. An alert waits for nothing but a failed attempt, and then ``ALERT_WAIT_MAX_S`` at most.
    3. All else waits at least as long as the server asked (``Retry-After``), and spreads behind that (full jitter).
    4. An exchange that would push nothing comes no closer to the last one than the server's ``min_interval_s``.
    5. No wait is longer than ``WAIT_MAX_S``, whatever a server says or a clock does; none at all is given only where
       the device's own state has to change first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from einthoven_protocol.limits import MAX_RESULTS_PER_EXCHANGE


class Lane(IntEnum):
    """What waits, by how soon it goes."""

    POLL = 0
    """Nothing is known to wait; a look whether there is news."""
    SIGNAL = 1
    """Raw signal of results that the server holds."""
    NEWS = 2
    """The server said that there is something."""
    WORDS = 3
    """Annotations, notes, deletions."""
    RESULT = 4
    """Results, and those that are to be given back."""
    ALERT = 5
    """A result that is urgent."""


class _Supply(IntEnum):
    AMPLE = 0
    BATTERY = 1
    LOW = 2
    CRITICAL = 3


LOW_BATTERY_PERCENT: Final = 20
"""Below it, and not charging, exchanges get rare."""
CRITICAL_BATTERY_PERCENT: Final = 5
"""Below it, and not charging, only alerts go."""

BACKOFF_BASE_S: Final = 1.0
"""Most that is waited after one failure; doubled by each further one."""
BACKOFF_CAP_S: Final = 600.0
"""Most that is waited for failures alone."""
ALERT_BACKOFF_CAP_S: Final = 30.0
"""The same with an alert waiting."""
ALERT_WAIT_MAX_S: Final = 60.0
"""Most that an alert waits, even for a server that asks for more."""
WAIT_MAX_S: Final = 86_400.0
"""Longest wait of all."""
MIN_PUSH_RESULTS: Final = 100
"""Results of a push after many failures: a message that a slow network carries in time."""

_INTERVAL_S: Final[dict[Lane, tuple[float | None, float | None, float | None, float | None]]] = {
    Lane.ALERT: (0.0, 0.0, 0.0, 0.0),
    Lane.RESULT: (2.0, 60.0, 900.0, None),
    Lane.WORDS: (2.0, 60.0, 900.0, None),
    Lane.NEWS: (2.0, 60.0, 900.0, None),
    Lane.SIGNAL: (60.0, 900.0, None, None),
    Lane.POLL: (300.0, 1_800.0, 7_200.0, None),
}
"""Seconds between exchanges, by ``_Supply``; ``None`` is not at all. What comes within them travels together."""
_METERED_INTERVAL_S: Final[dict[Lane, float | None]] = {
    Lane.ALERT: 0.0,
    Lane.RESULT: 300.0,
    Lane.WORDS: 300.0,
    Lane.NEWS: 300.0,
    Lane.SIGNAL: None,
    Lane.POLL: 3_600.0,
}
"""The same where every byte is paid for; the longer of the two holds."""
_PUSHES: Final = (Lane.WORDS, Lane.RESULT, Lane.ALERT)
_MOST_DOUBLINGS: Final = 30


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the device knows of its supply and its network.

    Attributes:
        battery_percent: 0 to 100; ``None`` without a battery, or where it can't be known.
        charging: Whether it is plugged in.
        metered: Whether the network counts bytes.
    """

    battery_percent: float | None = None
    charging: bool = False
    metered: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How it went so far; times by one clock of the caller's, in seconds.

    Attributes:
        exchanged_at_s: End of the last exchange that succeeded; ``None`` before the first.
        failed_at_s: End of the last attempt, if it failed.
        failures: Failures since the last success.
        retry_after_s: What the server asked for with the last failure.
        chance: Drawn evenly from [0, 1) at the last failure, and kept until the next.
        min_interval_s: What the server announced (``ServerLimits``).
    """

    exchanged_at_s: float | None = None
    failed_at_s: float | None = None
    failures: int = 0
    retry_after_s: float = 0.0
    chance: float = 0.0
    min_interval_s: float = 0.0


def wait_s(lane: Lane, surroundings: Surroundings, standing: Standing, now_s: float) -> float | None:
    """Return how many seconds the next exchange has to wait, 0 for none.

    Args:
        lane: The most urgent of what waits.
        surroundings: The device's state now.
        standing: How it went so far.
        now_s: Now, by the clock of ``standing``. One that was set back counts as standing still.

    Returns:
        ``None`` if it does not run until the surroundings change.
    """
    interval_s = _interval_s(lane, surroundings)
    if interval_s is None:
        return None
    if lane not in _PUSHES:
        interval_s = max(interval_s, standing.min_interval_s)
    waits_s = [0.0]
    if standing.exchanged_at_s is not None:
        waits_s.append(interval_s - _elapsed_s(standing.exchanged_at_s, now_s))
    if standing.failures and standing.failed_at_s is not None:
        waits_s.append(_pause_s(lane, standing) - _elapsed_s(standing.failed_at_s, now_s))
    return min(max(waits_s), WAIT_MAX_S)


def backoff_s(failures: int, chance: float, *, cap_s: float = BACKOFF_CAP_S) -> float:
    """Return the wait after so many failures in a row: full jitter, ``chance`` of the doubled and capped base.

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    if failures < 1:
        return 0.0
    return chance * min(cap_s, BACKOFF_BASE_S * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))


def push_results(failures: int) -> int:
    """Return how many results a push takes at most: fewer after failures, so that a slow network carries one at all."""
    return max(MIN_PUSH_RESULTS, MAX_RESULTS_PER_EXCHANGE >> min(max(failures, 0), _MOST_DOUBLINGS))


def signals_allowed(surroundings: Surroundings) -> bool:
    """Return whether raw signals may be uploaded now, with nothing more urgent waiting."""
    return not surroundings.metered and _INTERVAL_S[Lane.SIGNAL][_supply(surroundings)] is not None


def listens(surroundings: Surroundings) -> bool:
    """Return whether a line to the server may be kept open, which costs a packet every half minute."""
    return _supply(surroundings) in (_Supply.AMPLE, _Supply.BATTERY)


def _interval_s(lane: Lane, surroundings: Surroundings) -> float | None:
    """Seconds between two exchanges; waiting signals that may not go do not keep a look for news from running."""
    supply = _supply(surroundings)
    found = []
    for one in {lane, Lane.POLL}:
        supplied_s, metered_s = _INTERVAL_S[one][supply], _METERED_INTERVAL_S[one] if surroundings.metered else 0.0
        if supplied_s is not None and metered_s is not None:
            found.append(max(supplied_s, metered_s))
    return min(found, default=None)


def _supply(surroundings: Surroundings) -> _Supply:
    percent = surroundings.battery_percent
    if surroundings.charging or percent is None:
        return _Supply.AMPLE
    if percent < CRITICAL_BATTERY_PERCENT:
        return _Supply.CRITICAL
    return _Supply.LOW if percent < LOW_BATTERY_PERCENT else _Supply.BATTERY


def _pause_s(lane: Lane, standing: Standing) -> float:
    """How long a failure holds the next attempt off."""
    alert = lane is Lane.ALERT
    spread_s = backoff_s(standing.failures, standing.chance, cap_s=ALERT_BACKOFF_CAP_S if alert else BACKOFF_CAP_S)
    paused_s = max(standing.retry_after_s, 0.0) + spread_s
    return min(paused_s, ALERT_WAIT_MAX_S) if alert else paused_s


def _elapsed_s(since_s: float, now_s: float) -> float:
    return max(0.0, now_s - since_s)
