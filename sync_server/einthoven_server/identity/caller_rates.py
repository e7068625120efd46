"""Holds callers who are known by now to their rates, and says when to come back.

It deliberately counts nobody whose request was not verified: else anyone could use up another's rate.
"""

from __future__ import annotations

from collections.abc import Sequence

from einthoven_server.clock import Clock
from einthoven_server.errors import TooMany
from einthoven_server.identity.rates import Cost, Rates


class CallerRates:
    """Of one tenant.

    Args:
        rates: What they may ask for in a time.
        tenant: Opaque tenant id.
        clock: Wall time.
    """

    def __init__(self, rates: Rates, tenant: str, clock: Clock) -> None:
        self._rates = rates
        self._tenant = tenant
        self._clock = clock

    def take(self, caller_id: str, costs: Sequence[Cost]) -> None:
        """Take what a request costs.

        Raises:
            TooMany: The caller, or the tenant's callers together, ask too often.
        """
        wait_s = self._rates.take(self._tenant, caller_id, costs, self._clock.now_ms())
        if wait_s:
            raise TooMany(
                "this device or its clinic asks too often", f"try again in {wait_s} s", wait_s, "too_many_requests"
            )
