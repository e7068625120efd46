"""What waits for the one writer of a shard, shared fairly. Pure: no task, no clock.

It deliberately never reorders what one caller brought: a device's changes leave in the order they came.

Invariants:
    1. At most ``max_waiting`` wait; of one tenant and of one caller at most their share of it.
    2. Tenants take turns, and within a tenant its callers: who brings many waits behind who brings one.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from enum import Enum, auto
from fractions import Fraction
from typing import Generic, TypeVar

from einthoven_server import limits

T = TypeVar("T")


class Full(Enum):
    """Why something may not wait."""

    QUEUE = auto()
    TENANT = auto()
    CALLER = auto()


class FairQueue(Generic[T]):
    """A bounded queue of queues.

    Args:
        max_waiting: How many may wait.
        tenant_share: What part of them may be one tenant's.
        caller_share: What part of them may be one caller's, but ``WRITER_CALLER_MIN_CHANGES`` in any case.
    """

    def __init__(
        self,
        max_waiting: int,
        tenant_share: Fraction = limits.WRITER_TENANT_SHARE,
        caller_share: Fraction = limits.WRITER_CALLER_SHARE,
    ) -> None:
        self.max_waiting = max_waiting
        self._tenant_max = math.ceil(max_waiting * tenant_share)
        self._caller_max = max(limits.WRITER_CALLER_MIN_CHANGES, math.ceil(max_waiting * caller_share))
        self._waiting = 0
        self._by_tenant: dict[str, int] = {}
        self._turns: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()

    def __len__(self) -> int:
        return self._waiting

    def put(self, tenant: str, caller: str, item: T) -> Full | None:
        """Let it wait.

        Returns:
            ``None``, or why it may not.
        """
        callers = self._turns.get(tenant)
        queue = None if callers is None else callers.get(caller)
        if self._waiting >= self.max_waiting:
            return Full.QUEUE
        if queue is not None and len(queue) >= self._caller_max:
            return Full.CALLER
        if self._by_tenant.get(tenant, 0) >= self._tenant_max:
            return Full.TENANT
        self._turns.setdefault(tenant, OrderedDict()).setdefault(caller, deque()).append(item)
        self._by_tenant[tenant] = self._by_tenant.get(tenant, 0) + 1
        self._waiting += 1
        return None

    def take(self) -> T:
        """Take the next one out.

        Raises:
            LookupError: Nothing waits.
        """
        if not self._waiting:
            raise LookupError("nothing waits")
        tenant, callers = next(iter(self._turns.items()))
        caller, queue = next(iter(callers.items()))
        item = queue.popleft()
        if queue:
            callers.move_to_end(caller)
        else:
            del callers[caller]
        if callers:
            self._turns.move_to_end(tenant)
            self._by_tenant[tenant] -= 1
        else:
            del self._turns[tenant], self._by_tenant[tenant]
        self._waiting -= 1
        return item
