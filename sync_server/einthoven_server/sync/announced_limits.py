"""What a server asks of its devices, as a function of how many changes wait for its writer. Pure.

It deliberately keeps no average and no memory: the queue's depth is the only sign of load, and it says nothing while
there is none, which costs no byte.

Invariants:
    1. More waiting never makes a push larger or an interval shorter.
    2. What is asked for always lets a device go on: at least ``ANNOUNCED_MIN_RESULTS`` and
       ``ANNOUNCED_MIN_ANNOTATIONS``, and at most ``ANNOUNCED_MAX_INTERVAL_S``.
"""

from __future__ import annotations

from einthoven_protocol.limits import MAX_ANNOTATIONS_PER_EXCHANGE, MAX_RESULTS_PER_EXCHANGE
from einthoven_protocol.messages import ServerLimits
from einthoven_server import limits


def announced_limits(waiting: int, queue_max: int) -> ServerLimits:
    """What to ask for.

    Args:
        waiting: Changes that wait for the writer.
        queue_max: How many may.
    """
    free = max(0, queue_max - waiting)
    if waiting <= queue_max * limits.ANNOUNCED_FROM_LOAD:
        return ServerLimits()
    return ServerLimits(
        max_results=max(limits.ANNOUNCED_MIN_RESULTS, MAX_RESULTS_PER_EXCHANGE * free // queue_max),
        max_annotations=max(limits.ANNOUNCED_MIN_ANNOTATIONS, MAX_ANNOTATIONS_PER_EXCHANGE * free // queue_max),
        min_interval_s=min(limits.ANNOUNCED_MAX_INTERVAL_S, -(-limits.ANNOUNCED_MAX_INTERVAL_S * waiting // queue_max)),
    )
