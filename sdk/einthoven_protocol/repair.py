"""What a device asks next to mend one bucket, until its digest is the server's. Sans-IO.

    plan = RepairPlan(device_alias, owner, kind, theirs, missing)
    while (request := plan.next(standing())) is not None:
        response = ...                  # the round trip
        plan.take(response)             # checks it
        store.apply_repair(request, response, ...)
    plan.settled                        # or the bucket is to be named in an error

Known holes are fetched by runs. Else coded symbols find scattered differences: as many as the counts make likely, with
a sketch, from which the server says how many it takes. Where more than ``MAX_SHARE`` of the rows differ, or symbols
fail, everything is fetched, and what the server does not name is not there (``absent_places``). What the server lost
is given last.

It deliberately moves no bytes, draws no chance (``Standing.session``) and touches no store.

Invariants:
    1. There are at most ``_max_round_trips`` requests, each of which is allowed by ``limits``.
    2. It ends settled only if the digests are equal and nothing is left to give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from einthoven_protocol import limits
from einthoven_protocol.messages import BucketKind, Digest, IdentifiedResult, RepairRequest, RepairResponse, Run
from einthoven_protocol.repair_answer import DECODED, UNDECODED, max_others
from einthoven_protocol.repair_checks import absent_places, check_repair_response, other_rows
from einthoven_protocol.riblt import MAX_SYMBOLS, encode, items
from einthoven_protocol.strata import sketch

__all__ = ["MAX_SHARE", "MAX_TRIES", "RepairPlan", "Standing", "absent_places", "check_repair_response", "other_rows"]

MAX_SHARE: Final = 0.3
"""Where more of the rows differ, all of them are fetched."""
MAX_TRIES: Final = 5
"""Requests with symbols before everything is fetched, and again after that."""
MAX_FRUITLESS: Final = 2
"""Decoded answers in a row that change nothing here: the store does not take them, or will not. One may be bad luck."""
_MIN_SNAPSHOT_ROWS: Final = 256
"""Differences that symbols are always tried on: they are cheaper than the questions before a snapshot."""
# Measured over thousands of sets (docs/adr/0019): a known number of differences, and an estimated one.
_PER_KNOWN: Final = 1.5
_KNOWN_ROOM: Final = 24
_PER_ESTIMATED: Final = 1.75
_ESTIMATED_ROOM: Final = 12


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the device stands before a request.

    Attributes:
        shares: uint8 [n, 16]: of the bucket's rows that the server is believed to hold, in canonical order.
        ours: The digest over the same.
        session: 16 fresh random bytes.
        given: Own results that the server is known to lack, ``limits.MAX_GIVEN_PER_REPAIR`` at most.
        segments_root: See ``RepairRequest``.
        signature: See there.
    """

    shares: NDArray[np.uint8]
    ours: Digest
    session: bytes
    given: Sequence[IdentifiedResult] = ()
    segments_root: bytes = b""
    signature: bytes = b""


class RepairPlan:
    """One repair of one bucket.

    Args:
        device_alias: Who asks.
        owner: Whose rows.
        kind: ``BucketKind``.
        theirs: What the server last said the bucket's digest is.
        missing: Runs of results that are known to be missing here.
    """

    def __init__(self, device_alias: int, owner: int, kind: int, theirs: Digest, missing: Sequence[Run] = ()) -> None:
        self._bare = RepairRequest(device_alias=device_alias, owner=owner, kind=kind)
        self._kind = kind
        self._theirs = theirs
        self._wanted = sorted(missing)
        self._page = -1
        self._held: tuple[Run, ...] | None = None if kind == BucketKind.RECORDS else ()
        self._tries = 0
        self._n_symbols = 0
        self._estimate = 0
        self._fetched_all = False
        self._fruitless = 0
        self._before: Digest | None = None
        self._asked: RepairRequest | None = None
        self._max_round_trips = 0
        self.round_trips = 0
        self.settled = False

    def next(self, standing: Standing) -> RepairRequest | None:
        """Return the next request, ``None`` if there is none: then ``settled`` says how it ended."""
        if not self.round_trips:
            self._max_round_trips = _enough(standing.ours.count + self._theirs.count, self._kind)
        equal = standing.ours == self._theirs
        self._fruitless = self._fruitless if standing.ours == self._before else 0
        self._before = standing.ours
        if equal and self._fetched_all:
            self._wanted, self._page = [], -1  # enough of it came
        self.settled = equal and not standing.given and not self._wanted and self._page < 0
        if self.settled or self.round_trips == self._max_round_trips or self._fruitless == MAX_FRUITLESS:
            return None
        self._asked = self._request(standing, equal=equal)
        self.round_trips += self._asked is not None
        return self._asked

    def take(self, response: RepairResponse) -> None:
        """Take note of an answer.

        Raises:
            InconsistentExchange: It does not add up with the request; nothing of it may be applied.
            ValueError: Nothing was asked.
        """
        asked, self._asked = self._asked, None
        if asked is None:
            raise ValueError("an answer comes after a request")
        check_repair_response(asked, response)
        self._theirs = response.digest
        if asked.wanted or asked.page >= 0:
            self._advance(asked, response)
        if response.decoded == DECODED:
            self._n_symbols = 0
            self._fruitless += 1  # until the digest has changed
            self._estimate = response.differences - len(response.absent)
            self._estimate -= len(response.results) + len(other_rows(response))
            if response.more:
                self._tries = 0
        elif response.decoded == UNDECODED:
            self._estimate = max(self._estimate, response.differences)
        if response.decoded != DECODED and self._kind == BucketKind.RECORDS:
            self._held = response.held

    def _request(self, standing: Standing, *, equal: bool) -> RepairRequest | None:
        if self._wanted or self._page >= 0:
            return self._ask_rows()
        if equal:
            return structs.replace(
                self._bare,
                given=tuple(standing.given),
                segments_root=standing.segments_root,
                signature=standing.signature,
            )
        n_symbols = self._next_number(standing)
        if n_symbols:
            return self._ask_symbols(standing, n_symbols)
        if self._fetched_all:
            return None
        if self._held is None:
            return self._bare  # which results are there at all?
        self._fetched_all = True
        self._tries = self._n_symbols = self._estimate = 0
        self._wanted = list(self._held)
        self._page = 0
        return self._ask_rows()

    def _ask_rows(self) -> RepairRequest:
        now, later = self._wanted[: limits.MAX_RUNS_PER_REPAIR], self._wanted[limits.MAX_RUNS_PER_REPAIR :]
        return structs.replace(self._bare, wanted=tuple(now), page=-1 if later else self._page)

    def _ask_symbols(self, standing: Standing, n_symbols: int) -> RepairRequest:
        self._n_symbols = n_symbols
        self._tries += 1
        own_items = items(standing.session, standing.shares)
        return structs.replace(
            self._bare,
            session=standing.session,
            symbols=encode(standing.session, own_items, n_symbols),
            sketch=b"" if self._estimate else sketch(own_items),
        )

    def _next_number(self, standing: Standing) -> int:
        """Return how many symbols to send, 0 for none: fetch everything."""
        ours, theirs = standing.ours.count, self._theirs.count
        likely = max(abs(ours - theirs), self._estimate)
        too_many = max(_MIN_SNAPSHOT_ROWS, MAX_SHARE * max(ours, theirs))
        if self._tries == MAX_TRIES or (likely > too_many and not self._fetched_all):
            return 0
        if not self._n_symbols:
            return min(math.ceil(_PER_KNOWN * likely) + _KNOWN_ROOM, MAX_SYMBOLS)
        if self._n_symbols == MAX_SYMBOLS:
            return 0
        if not self._estimate:
            return min(4 * self._n_symbols, MAX_SYMBOLS)
        wanted = max(_PER_ESTIMATED * likely + _ESTIMATED_ROOM, 1.5 * self._n_symbols)
        return min(math.ceil(wanted), MAX_SYMBOLS)

    def _advance(self, asked: RepairRequest, response: RepairResponse) -> None:
        """Leave out of what is wanted what came."""
        others = other_rows(response)
        if not response.more or others:
            del self._wanted[: len(asked.wanted)]
        else:
            last = response.results[-1]
            self._wanted = _after(self._wanted, last.epoch, last.row.counter)
        if asked.page >= 0 and not response.more:
            self._page = -1
        elif asked.page >= 0 and others:
            # The last row once more: so no row between two pages goes unseen.
            self._page += len(others) - 1


def _after(runs: Sequence[Run], epoch: int, counter: int) -> list[Run]:
    rest = []
    for run in runs:
        first = max(run.first, counter + 1) if run.epoch == epoch else run.first
        if run.epoch >= epoch and first <= run.last:
            rest.append(Run(run.epoch, first, run.last))
    return rest


def _enough(n_rows: int, kind: int) -> int:
    """Requests that the worst case of so many rows takes."""
    pages = n_rows // (max_others(kind) - 1) + n_rows // limits.MAX_RESULTS_PER_EXCHANGE
    return 4 * MAX_TRIES + 2 * pages + n_rows // limits.MAX_GIVEN_PER_REPAIR
