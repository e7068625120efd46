"""How much a device, and a tenant with all its devices, may ask for in a time. Pure: token buckets, no clock.

A bucket holds what may come at once (``burst``) and refills evenly (``per_s``). It deliberately counts only what a
verified device sent: who merely claims to be a device takes nothing from that device.

Invariants:
    1. A request takes from all of its buckets or from none, so a refused one costs its sender nothing later.
    2. In any time T a key gets at most burst + T * per_s of each unit. A request of more than a whole burst counts as
       one burst: it waits for a full bucket, and is not refused for ever.
    3. A clock that goes back refills nothing.
    4. At most ``keys_max`` buckets are kept; the one unused for longest goes first, and would be the fullest.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from einthoven_server import limits


class Rate(NamedTuple):
    """One limit.

    Attributes:
        unit: What is counted.
        per_s: How many come back in a second.
        burst: How many may come at once.
    """

    unit: str
    per_s: float
    burst: float


REQUESTS: Final = "requests"
BODY_BYTES: Final = "bytes"
WAKES: Final = "wakes"
REPAIRS: Final = "repairs"

DEVICE_RATES: Final = (
    Rate(REQUESTS, limits.DEVICE_REQUESTS_A_SECOND, limits.DEVICE_REQUESTS_BURST),
    Rate(BODY_BYTES, limits.DEVICE_BYTES_A_SECOND, limits.DEVICE_BYTES_BURST),
    Rate(WAKES, limits.DEVICE_WAKES_A_SECOND, limits.DEVICE_WAKES_BURST),
    Rate(REPAIRS, limits.DEVICE_REPAIRS_A_SECOND, limits.DEVICE_REPAIRS_BURST),
)
TENANT_RATES: Final = (
    Rate(REQUESTS, limits.TENANT_REQUESTS_A_SECOND, limits.TENANT_REQUESTS_BURST),
    Rate(BODY_BYTES, limits.TENANT_BYTES_A_SECOND, limits.TENANT_BYTES_BURST),
)


class Cost(NamedTuple):
    """What a request takes of one unit."""

    unit: str
    amount: float


class _Bucket:
    __slots__ = ("at_ms", "left")

    def __init__(self, left: float, at_ms: int) -> None:
        self.left = left
        self.at_ms = at_ms

    def refill(self, rate: Rate, now_ms: int) -> None:
        if now_ms > self.at_ms:
            self.left = min(rate.burst, self.left + (now_ms - self.at_ms) * rate.per_s / 1000)
            self.at_ms = now_ms


class Rates:
    """The buckets of all devices and tenants that a process serves.

    Args:
        device: Limits of each device.
        tenant: Limits of each tenant.
        keys_max: How many buckets are kept.
    """

    def __init__(
        self,
        device: Sequence[Rate] = DEVICE_RATES,
        tenant: Sequence[Rate] = TENANT_RATES,
        keys_max: int = limits.RATE_BUCKETS_MAX,
    ) -> None:
        self._device = {rate.unit: rate for rate in device}
        self._tenant = {rate.unit: rate for rate in tenant}
        self._keys_max = keys_max
        self._buckets: OrderedDict[tuple[str, str, str], _Bucket] = OrderedDict()

    def take(self, tenant: str, device_id: str, costs: Sequence[Cost], now_ms: int) -> int:
        """Take what a request costs.

        Args:
            tenant: Opaque tenant id.
            device_id: The verified device.
            costs: One for each unit at most.
            now_ms: Any clock, ms.

        Returns:
            0 if it was taken, else in how many whole seconds to come back.
        """
        touched: list[tuple[_Bucket, float]] = []
        wait_s = 0.0
        for unit, amount in costs:
            for rates, key in ((self._device, device_id), (self._tenant, "")):
                rate = rates.get(unit)
                if rate is None:
                    continue
                bucket = self._bucket((tenant, key, unit), rate, now_ms)
                taken = min(amount, rate.burst)
                touched.append((bucket, taken))
                wait_s = max(wait_s, (taken - bucket.left) / rate.per_s)
        if wait_s > 0:
            return min(limits.RETRY_AFTER_MAX_S, max(1, math.ceil(wait_s)))
        for bucket, taken in touched:
            bucket.left -= taken
        return 0

    def _bucket(self, key: tuple[str, str, str], rate: Rate, now_ms: int) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(rate.burst, now_ms)
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        bucket.refill(rate, now_ms)
        return bucket
