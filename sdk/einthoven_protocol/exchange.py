"""Does a response add up with the request it answers? The one decision a device makes before it applies anything.

It deliberately changes nothing and knows no store: a caller applies a checked response whole, or not at all. It checks
no signature of a document either: that takes a key (``documents``).

Invariants of a response, in the order they are checked:
    1. The shard epoch never goes back, and within one the commit sequence never does.
    2. With results pushed, ``acknowledged`` is at most the last pushed counter and at least the one before the first.
       It may be lower only under a new shard epoch: the server lost what it had acknowledged, and wants it again. The
       same holds of notes and ``notes_acknowledged``.
    3. Every verdict speaks of a pushed row that is acknowledged (a refusal is final), of each at most once, in
       ascending order.
    4. Every refusal speaks of an annotation, a note or a deletion that was pushed, of each at most once; of a note, of
       one that is acknowledged.
    5. Rows that come down, and ``more``, come only with a cursor that moved: asking again always gets further.
    6. No row comes twice, no document, no owner, and no digest; the own bucket's digest is not among the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from einthoven_protocol.errors import InconsistentExchange
from einthoven_protocol.messages import BucketKind, ExchangeRequest, ExchangeResponse, NoteRow, ResultRow, RowKind
from einthoven_protocol.packed_results import IdentifiedResults

_IDENTITIES: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "annotations": ("an annotation", lambda row: (row.target, row.author)),
    "results": ("a result", lambda row: (row.device_alias, row.epoch, row.row.counter)),
    "notes": ("a note", lambda row: (row.device_alias, row.epoch, row.counter)),
    "superseded": ("a superseded write", lambda row: row),
    "tombstones": ("a tombstone", lambda row: (row.kind, row.device_alias, row.epoch, row.counter, row.author)),
    "documents": ("a document", lambda row: row),
    "owners": ("an owner", lambda row: row.device_alias),
    "digests": ("a digest", lambda row: (row.device_alias, row.kind)),
}
_FED: Final = ("annotations", "results", "notes", "superseded", "tombstones", "documents")
"""What the cursor is a position in; owners and digests are as of now."""


def check_response(request: ExchangeRequest, response: ExchangeResponse) -> None:
    """Refuse a response that does not add up.

    Raises:
        InconsistentExchange: One of this module's invariants does not hold; nothing may be applied.
    """
    _check_cursor(request, response)
    _check_acknowledged(request, response, "results", request.results, response.acknowledged)
    _check_acknowledged(request, response, "notes", request.notes, response.notes_acknowledged)
    _check_verdicts(request, response)
    _check_refused(request, response)
    _check_pull(request, response)


def _check_cursor(request: ExchangeRequest, response: ExchangeResponse) -> None:
    # Cursors order by (shard_epoch, commit_seq), which is invariant 1.
    if response.cursor < request.cursor:
        raise InconsistentExchange("the server's cursor went back; nothing was applied")


def _check_acknowledged(
    request: ExchangeRequest,
    response: ExchangeResponse,
    name: str,
    pushed: Sequence[ResultRow] | Sequence[NoteRow],
    acknowledged: int,
) -> None:
    if not pushed:
        return
    if acknowledged > pushed[-1].counter:
        raise InconsistentExchange(f"the server acknowledged {name} that were not pushed; nothing was applied")
    same_history = response.cursor.shard_epoch == request.cursor.shard_epoch
    if same_history and acknowledged < pushed[0].counter - 1:
        raise InconsistentExchange(f"the server forgot {name} that it had acknowledged; nothing was applied")


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


def _check_refused(request: ExchangeRequest, response: ExchangeResponse) -> None:
    if not response.refused:
        return
    # A deletion is refused under the name of the row it speaks of.
    pushed = {(row.kind, row.device_alias, row.epoch, row.counter, row.author) for row in request.deletions}
    for row in request.annotations:
        target = row.target
        pushed.add((RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, row.author))
    for note in request.notes:
        if note.counter <= response.notes_acknowledged:
            pushed.add((RowKind.NOTE, note.device_alias, note.epoch, note.counter, ""))
    refused = [(row.kind, row.device_alias, row.epoch, row.counter, row.author) for row in response.refused]
    if len(set(refused)) != len(refused) or not pushed.issuperset(refused):
        raise InconsistentExchange("the server refused what was not pushed or not settled; nothing was applied")


def _check_pull(request: ExchangeRequest, response: ExchangeResponse) -> None:
    fed = response.more or any(getattr(response, name) for name in _FED)
    if response.cursor == request.cursor and fed:
        raise InconsistentExchange("the server sent changes but its cursor stood still; nothing was applied")
    for name, (what, identity) in _IDENTITIES.items():
        rows = getattr(response, name)
        if _count_distinct(rows, identity) != len(rows):
            raise InconsistentExchange(f"the server sent {what} twice; nothing was applied")
    if any((row.device_alias, row.kind) == (request.device_alias, BucketKind.RECORDS) for row in response.digests):
        raise InconsistentExchange("the server sent a digest twice; nothing was applied")


def _count_distinct(rows: Sequence[Any], identity: Callable[[Any], Any]) -> int:
    # By the thousand; no row is made only to be compared.
    return rows.count_distinct() if isinstance(rows, IdentifiedResults) else len(set(map(identity, rows)))
