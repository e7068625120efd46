"""How much memory requests under way may take: a budget that bodies, and what becomes of them, are charged to.

Many lawful requests at once can be more than a machine has: a body is up to 16 MiB, its rows wait for their commit as
Python objects, and there are as many senders as devices. So every request has a ``Loan`` of one ``Budget``, which grows
as its bytes arrive and as rows are made of them, and is given back when it is answered. What does not fit is refused
at once (503, ``Retry-After``), before it is allocated. It deliberately measures nothing: sizes are what the takers say.

Invariants:
    1. Loans never add up to more than the budget.
    2. Loans above ``light_bytes`` fill ``heavy_share`` of it at most: a few large requests keep no small one out.
    3. A loan is given back exactly once, however its request ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from einthoven_server import limits
from einthoven_server.errors import Busy


class Budget:
    """Bytes that requests under way may take together.

    Args:
        most_bytes: All of them.
        light_bytes: A loan up to this may use all of the budget.
        heavy_share: What part of it others may fill.
    """

    def __init__(
        self,
        most_bytes: int = limits.IN_FLIGHT_MAX_BYTES,
        light_bytes: int = limits.IN_FLIGHT_LIGHT_BYTES,
        heavy_share: Fraction = limits.IN_FLIGHT_HEAVY_SHARE,
    ) -> None:
        self._most_bytes = most_bytes
        self._light_bytes = light_bytes
        self._heavy_most_bytes = int(most_bytes * heavy_share)
        self._lent_bytes = 0

    @property
    def lent_bytes(self) -> int:
        """What all loans take now."""
        return self._lent_bytes

    @contextmanager
    def loan(self) -> Iterator[Loan]:
        """A loan of nothing yet; given back when the block ends."""
        loan = Loan(self)
        try:
            yield loan
        finally:
            loan.resize(0)

    def resize(self, before_bytes: int, after_bytes: int) -> None:
        """Let one loan grow or shrink.

        Raises:
            Busy: There is no room.
        """
        lent_bytes = self._lent_bytes - before_bytes + after_bytes
        most_bytes = self._most_bytes if after_bytes <= self._light_bytes else self._heavy_most_bytes
        if after_bytes > before_bytes and lent_bytes > most_bytes:
            raise Busy("too much is under way", "try again later", limits.BUSY_RETRY_AFTER_S)
        self._lent_bytes = lent_bytes


class Loan:
    """What one request takes; made by ``Budget.loan``.

    Args:
        budget: Where from.
    """

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._bytes = 0

    def take(self, more_bytes: int) -> None:
        """Take more.

        Raises:
            Busy: There is no room; what was taken before stays.
        """
        self.resize(self._bytes + more_bytes)

    def resize(self, all_bytes: int) -> None:
        """Take so much in all.

        Raises:
            Busy: It is more than before, and there is no room; what was taken before stays.
        """
        self._budget.resize(self._bytes, all_bytes)
        self._bytes = all_bytes


_LOAN: Final = web.RequestKey("loan", Loan)


def lends(budget: Budget) -> Middleware:
    """A middleware that gives every request its loan."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        with budget.loan() as loan:
            request[_LOAN] = loan
            return await handler(request)

    return middleware


def loan_of(request: web.Request) -> Loan:
    """A request's loan; one of a budget of its own, where no middleware lends."""
    loan = request.get(_LOAN)
    return Loan(Budget()) if loan is None else loan
