"""Does a response add up with the request it answers? The one decision a device makes before it applies anything.

It deliberately changes nothing and knows no store: a caller applies a checked response whole, or not at all.

Invariants of a response, in the order they are checked:
    1. The shard epoch never goes back, and within one the commit sequence never does.
    2. With results pushed, ``acknowledged`` is at most the last pushed counter and at least the one before the first.
       It may be lower only under a new shard epoch: the server lost what it had acknowledged, and wants it again.
    3. Every verdict speaks of a pushed row that is acknowledged (a refusal is final), of each at most once, in
       ascending order.
    4. Annotations and ``more`` come only with a cursor that moved: asking again always gets further.
    5. A (result, author) comes at most once.
"""

from __future__ import annotations

from itertools import pairwise

from einthoven_protocol.errors import InconsistentExchange
from einthoven_protocol.messages import ExchangeRequest, ExchangeResponse


def check_response(request: ExchangeRequest, response: ExchangeResponse) -> None:
    """Refuse a response that does not add up.

    Raises:
        InconsistentExchange: One of this module's invariants does not hold; nothing may be applied.
    """
    _check_cursor(request, response)
    _check_acknowledged(request, response)
    _check_verdicts(request, response)
    _check_pull(request, response)


def _check_cursor(request: ExchangeRequest, response: ExchangeResponse) -> None:
    # Cursors order by (shard_epoch, commit_seq), which is invariant 1.
    if response.cursor < request.cursor:
        raise InconsistentExchange("the server's cursor went back; nothing was applied")


def _check_acknowledged(request: ExchangeRequest, response: ExchangeResponse) -> None:
    if not request.results:
        return
    if response.acknowledged > request.results[-1].counter:
        raise InconsistentExchange("the server acknowledged results that were not pushed; nothing was applied")
    same_history = response.cursor.shard_epoch == request.cursor.shard_epoch
    if same_history and response.acknowledged < request.results[0].counter - 1:
        raise InconsistentExchange("the server forgot results that it had acknowledged; nothing was applied")


def _check_verdicts(request: ExchangeRequest, response: ExchangeResponse) -> None:
    if not response.verdicts:
        return
    counters = [verdict.counter for verdict in response.verdicts]
    if any(later <= earlier for earlier, later in pairwise(counters)):
        raise InconsistentExchange("the server's verdicts are out of order; nothing was applied")
    first = request.results[0].counter if request.results else 1
    last = request.results[-1].counter if request.results else 0
    if counters[0] < first or counters[-1] > min(last, response.acknowledged):
        raise InconsistentExchange(
            "the server gave a verdict on a result not pushed or not settled; nothing was applied"
        )


def _check_pull(request: ExchangeRequest, response: ExchangeResponse) -> None:
    if response.cursor == request.cursor and (response.annotations or response.more):
        raise InconsistentExchange("the server sent changes but its cursor stood still; nothing was applied")
    rows = {(row.target, row.author) for row in response.annotations}
    if len(rows) != len(response.annotations):
        raise InconsistentExchange("the server sent an annotation twice; nothing was applied")
