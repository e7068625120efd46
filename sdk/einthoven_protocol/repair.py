"""What a device asks next to mend one bucket, until its digest is the server's. Sans-IO.

    plan = RepairPlan(device_alias, owner, kind, theirs, missing)
    while (request := plan.next(standing())) is not None:
        response = ...                  # the round trip
        plan.take(response)             # checks it
        store.apply_repair(request, response, ...)
    plan.settled                        # or the bucket is to be named in an error

Known holes are fetched by runs, and so is what the counters leave out (``repair_holes``). Else coded symbols find
scattered differences: as many as the counts make likely, with a sketch, from which the server says how many it takes.
Where more than ``MAX_SHARE`` of the rows differ, or symbols fail, everything is fetched, and what the server does not
name is not there (``absent_places``). What the server lost is given last.

It deliberately moves no bytes, draws no chance (``Standing.session``) and touches no store.

Invariants:
    1. There are at most ``_max_round_trips`` requests, each of which is allowed by ``limits``.
    2. It ends settled only if the digests are equal and nothing is left to give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from einthoven_protocol import limits, power_sums
from einthoven_protocol.messages import BucketKind, Digest, IdentifiedResult, RepairRequest, RepairResponse, Run
from einthoven_protocol.repair_answer import DECODED, UNDECODED, max_others
from einthoven_protocol.repair_checks import absent_places, check_repair_response, other_rows
from einthoven_protocol.repair_holes import runs_missing
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
_LEAST_POWERS: Final = 128
"""Sent at least: they take less than another round trip, with its heads and signature, would."""
_POWERS_ROOM: Final = 28
"""More than the counts differ by: for what is missing on both sides."""
_POWERS_PER_ESTIMATED: Final = 1.3
_POWERS_ESTIMATED_ROOM: Final = 8


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
        result_ids: int64 [n_results, 2]: epoch and counter of the rows that are results, which are the first; none
            where they shall not be looked at for holes.
    """

    shares: NDArray[np.uint8]
    ours: Digest
    session: bytes
    given: Sequence[IdentifiedResult] = ()
    segments_root: bytes = b""
    signature: bytes = b""
    result_ids: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))


class RepairPlan:
    """One repair of one bucket.

    Args:
        device_alias: Who asks.
        owner: Whose rows.
        kind: ``BucketKind``.
        theirs: What the server last said the bucket's digest is.
        missing: Runs of results that are known to be missing here.
        takes_powers: Whether the server understands power sums (``Capability.POWERS``).
    """

    def __init__(
        self,
        device_alias: int,
        owner: int,
        kind: int,
        theirs: Digest,
        missing: Sequence[Run] = (),
        *,
        takes_powers: bool = False,
    ) -> None:
        self._bare = RepairRequest(device_alias=device_alias, owner=owner, kind=kind)
        self._kind = kind
        self._theirs = theirs
        self._wanted = sorted(missing)
        self._page = -1
        self._held: tuple[Run, ...] | None = None if kind == BucketKind.RECORDS else ()
        self._tries = 0
        self._takes_powers = takes_powers
        self._n_powers = 0
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
            self._wanted = self._wanted or self._holes(standing)
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
            self._n_powers = self._n_symbols = 0
            self._fruitless += 1  # until the digest has changed
            self._estimate = response.differences - len(response.absent)
            self._estimate -= len(response.results) + len(other_rows(response))
            if response.more:
                self._tries = 0
        elif response.decoded == UNDECODED:
            self._estimate = max(self._estimate, response.differences)
        if response.decoded != DECODED and self._kind == BucketKind.RECORDS:
            self._held = response.held

    def _holes(self, standing: Standing) -> list[Run]:
        return list(runs_missing(standing.result_ids, self._theirs.count - standing.ours.count))

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
        asked = None if self._is_hopeless(standing) else self._ask_what_differs(standing)
        if asked is not None or self._fetched_all:
            return asked
        if self._held is None:
            return self._bare  # which results are there at all?
        self._fetched_all = True
        self._tries = self._n_powers = self._n_symbols = self._estimate = 0
        self._wanted = list(self._held)
        self._page = 0
        return self._ask_rows()

    def _ask_rows(self) -> RepairRequest:
        now, later = self._wanted[: limits.MAX_RUNS_PER_REPAIR], self._wanted[limits.MAX_RUNS_PER_REPAIR :]
        return structs.replace(self._bare, wanted=tuple(now), page=-1 if later else self._page)

    def _ask_what_differs(self, standing: Standing) -> RepairRequest | None:
        if n_powers := self._next_powers(standing):
            return self._ask_powers(standing, n_powers)
        if n_symbols := self._next_symbols(standing):
            return self._ask_symbols(standing, n_symbols)
        return None

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

    def _ask_powers(self, standing: Standing, n_powers: int) -> RepairRequest:
        self._n_powers = n_powers
        self._tries += 1
        own_items = items(standing.session, standing.shares)
        return structs.replace(
            self._bare,
            session=standing.session,
            powers=power_sums.encode(own_items, n_powers),
            sketch=b"" if self._estimate else sketch(own_items),
        )

    def _likely(self, standing: Standing) -> int:
        return max(abs(standing.ours.count - self._theirs.count), self._estimate)

    def _is_hopeless(self, standing: Standing) -> bool:
        """Whether it is time to fetch everything."""
        too_many = max(_MIN_SNAPSHOT_ROWS, MAX_SHARE * max(standing.ours.count, self._theirs.count))
        return self._tries == MAX_TRIES or (self._likely(standing) > too_many and not self._fetched_all)

    def _next_powers(self, standing: Standing) -> int:
        """Return how many power sums to send, 0 for none: try symbols."""
        likely = self._likely(standing)
        if self._n_powers:
            wanted = max(math.ceil(_POWERS_PER_ESTIMATED * likely) + _POWERS_ESTIMATED_ROOM, 3 * self._n_powers // 2)
        else:
            wanted = max(likely + _POWERS_ROOM, _LEAST_POWERS)
        ours, theirs = standing.ours.count, self._theirs.count
        wanted = min(wanted, ours + theirs)  # more can't differ
        work = wanted * max(ours, theirs)
        fits = wanted <= power_sums.MAX_POWERS and work <= limits.MAX_POWERS_WORK
        return wanted if self._takes_powers and not self._n_symbols and fits else 0

    def _next_symbols(self, standing: Standing) -> int:
        """Return how many symbols to send, 0 for none: fetch everything."""
        likely = self._likely(standing)
        if not self._n_symbols and not self._n_powers:
            return min(math.ceil(_PER_KNOWN * likely) + _KNOWN_ROOM, MAX_SYMBOLS)
        if self._n_symbols == MAX_SYMBOLS:
            return 0
        if not self._estimate:
            return min(4 * max(self._n_symbols, self._n_powers), MAX_SYMBOLS)
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
