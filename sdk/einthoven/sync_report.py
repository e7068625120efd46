"""What a sync did, counted while it runs. Pure.

It deliberately holds no row and no content: counts, bytes, and where the store stands.

Invariants:
    1. Bytes are those of bodies, of requests that were answered; headers and TLS come on top.
    2. Every round trip has exactly one purpose, so that the traffic of all purposes adds up to all bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from einthoven.ports import SyncState
from einthoven.store_rules import is_reused
from einthoven_protocol import digests
from einthoven_protocol.messages import (
    Digest,
    ExchangeRequest,
    ExchangeResponse,
    RepairRequest,
    RepairResponse,
    VerdictCode,
)


class Purpose(Enum):
    """What a round trip was for, by the most urgent thing in it."""

    RESULTS = "results"
    WORDS = "words"
    """Annotations, notes, deletions, and nothing more urgent."""
    NEWS = "news"
    """Nothing was pushed."""
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What round trips of one purpose cost.

    Attributes:
        purpose: What they were for.
        round_trips: How many.
        bytes_up: Bodies of the requests, in bytes.
        bytes_down: Bodies of the answers, in bytes.
    """

    purpose: Purpose
    round_trips: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far a sync is, after a round trip.

    Attributes:
        rows_done: Rows settled and received so far, in this sync.
        rows_total: The same, with what is known to be left; it may grow on the way.
        round_trips: Requests answered.
        repairing: Whether both sides are being compared row by row.
    """

    rows_done: int
    rows_total: int
    round_trips: int
    repairing: bool = False


ShowProgress: TypeAlias = Callable[[SyncProgress], None]
"""Called in the event loop; must not wait."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did.

    Attributes:
        round_trips: Requests made.
        results_up: Results settled by the server; one that is given again counts once.
        annotations_up: Annotations sent.
        annotations_down: Annotations received.
        refused: Rows that the server refused, in this sync.
        bytes_up: Bodies of the requests, in bytes.
        bytes_down: Bodies of the answers, in bytes.
        result_bytes_up: Of ``bytes_up``, those of requests that carried results.
        server_digest: The server's own digest, as the last answer brought it; ``state`` holds this device's.
        state: Where the store stands now.
        forked: Whether the store was found to have been turned back, and began a new epoch; its events say why.
        alerts_up: Urgent results that went ahead of their turn; they count again when it comes.
        notes_up: Notes sent.
        deletions_up: Deletions sent.
        results_down: Results received: other devices', and own ones that were lost here.
        notes_down: Notes received.
        superseded_down: Losers of conflicts received.
        tombstones_down: Rows of which the server said that they are gone.
        documents_down: Documents received.
        repaired_rows: Rows that a repair brought, dropped or gave back.
        repair_round_trips: Of ``round_trips``, those of repairs.
        traffic: What the round trips cost, by purpose; purposes that did not occur are left out.
    """

    round_trips: int
    results_up: int
    annotations_up: int
    annotations_down: int
    refused: int
    bytes_up: int
    bytes_down: int
    result_bytes_up: int
    server_digest: Digest
    state: SyncState
    forked: bool = False
    alerts_up: int = 0
    notes_up: int = 0
    deletions_up: int = 0
    results_down: int = 0
    notes_down: int = 0
    superseded_down: int = 0
    tombstones_down: int = 0
    documents_down: int = 0
    repaired_rows: int = 0
    repair_round_trips: int = 0
    traffic: tuple[Traffic, ...] = ()

    @property
    def bytes_per_result(self) -> float | None:
        """Body bytes up for each result sent; None when there was none."""
        return self.result_bytes_up / self.results_up if self.results_up else None


@dataclass(slots=True)
class Tally:
    """What was done so far; ``add`` and ``add_repair`` count one round trip each."""

    results_up: int = 0
    alerts_up: int = 0
    annotations_up: int = 0
    notes_up: int = 0
    deletions_up: int = 0
    results_down: int = 0
    annotations_down: int = 0
    notes_down: int = 0
    superseded_down: int = 0
    tombstones_down: int = 0
    documents_down: int = 0
    repaired_rows: int = 0
    forks: int = 0
    server_digest: Digest = digests.EMPTY
    traffic: dict[Purpose, Traffic] = field(default_factory=dict)

    @property
    def round_trips(self) -> int:
        """Requests that were answered."""
        return sum(one.round_trips for one in self.traffic.values())

    def add(self, request: ExchangeRequest, bytes_up: int, response: ExchangeResponse, bytes_down: int) -> None:
        """Count an exchange."""
        self._travelled(_purpose(request), bytes_up, bytes_down)
        self.results_up += _settled(request, response)
        self.alerts_up += len(request.alerts)
        self.annotations_up += len(request.annotations)
        self.notes_up += len(request.notes)
        self.deletions_up += len(request.deletions)
        self.results_down += len(response.results)
        self.annotations_down += len(response.annotations)
        self.notes_down += len(response.notes)
        self.superseded_down += len(response.superseded)
        self.tombstones_down += len(response.tombstones)
        self.documents_down += len(response.documents)
        self.server_digest = response.digest

    def add_repair(self, request: RepairRequest, bytes_up: int, response: RepairResponse, bytes_down: int) -> None:
        """Count a round trip of a repair."""
        self._travelled(Purpose.REPAIR, bytes_up, bytes_down)
        brought = len(response.results) + len(response.annotations) + len(response.notes) + len(response.superseded)
        given = sum(code == VerdictCode.ACCEPTED for code in response.verdicts)
        self.repaired_rows += brought + len(response.absent) + given

    def progress(self, state: SyncState, *, repairing: bool = False) -> SyncProgress:
        """How far it is."""
        done = self.results_up + self.annotations_up + self.notes_up + self.deletions_up
        done += self.results_down + self.annotations_down + self.notes_down + self.superseded_down + self.repaired_rows
        return SyncProgress(done, done + rows_left(state), self.round_trips, repairing)

    def report(self, first: SyncState, last: SyncState) -> SyncReport:
        """What it came to, from a first to a last standing."""
        results, repairs = self.traffic.get(Purpose.RESULTS), self.traffic.get(Purpose.REPAIR)
        refused = len(last.refused) + len(last.refused_words) - len(first.refused) - len(first.refused_words)
        return SyncReport(
            round_trips=self.round_trips,
            results_up=self.results_up,
            annotations_up=self.annotations_up,
            annotations_down=self.annotations_down,
            refused=max(0, refused),
            bytes_up=sum(one.bytes_up for one in self.traffic.values()),
            bytes_down=sum(one.bytes_down for one in self.traffic.values()),
            result_bytes_up=results.bytes_up if results else 0,
            server_digest=self.server_digest,
            state=last,
            forked=self.forks > 0,
            alerts_up=self.alerts_up,
            notes_up=self.notes_up,
            deletions_up=self.deletions_up,
            results_down=self.results_down,
            notes_down=self.notes_down,
            superseded_down=self.superseded_down,
            tombstones_down=self.tombstones_down,
            documents_down=self.documents_down,
            repaired_rows=self.repaired_rows,
            repair_round_trips=repairs.round_trips if repairs else 0,
            traffic=tuple(self.traffic[purpose] for purpose in Purpose if purpose in self.traffic),
        )

    def _travelled(self, purpose: Purpose, bytes_up: int, bytes_down: int) -> None:
        past = self.traffic.get(purpose, Traffic(purpose))
        self.traffic[purpose] = Traffic(
            purpose, past.round_trips + 1, past.bytes_up + bytes_up, past.bytes_down + bytes_down
        )


def rows_left(state: SyncState) -> int:
    """Return how many rows are known to be left to send and to fetch."""
    here = state.digest.count + sum(one.count for one in state.digests)
    there = sum(one.count for one in state.server_digests)
    return state.waiting + state.waiting_given + max(0, there - here)


def _purpose(request: ExchangeRequest) -> Purpose:
    if request.results or request.alerts:
        return Purpose.RESULTS
    return Purpose.WORDS if request.annotations or request.notes or request.deletions else Purpose.NEWS


def _settled(request: ExchangeRequest, response: ExchangeResponse) -> int:
    """How many of the pushed results the server settled, without those that are given again (R7)."""
    if not request.results:
        return 0
    settled = response.acknowledged - request.results[0].counter + 1
    return max(0, settled - sum(is_reused(verdict) for verdict in response.verdicts))
