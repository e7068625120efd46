"""After kills: is everything that was durable there, once, and the same everywhere?

A fresh device of each patient, the witness, hears all that the server holds; every device's own store must show the
same, and the journals say what there must be. Signals are asked for as a clinician does. It deliberately asks the
server nothing that nobody else would.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from einthoven import sync
from einthoven.account import Account
from einthoven.account_authorization import Authorization
from einthoven.errors import ServerBusy
from einthoven.identity import load_identity
from einthoven.ports import Store
from einthoven.result_rows import to_row
from einthoven.segments import canonical_segment, segment_digest
from einthoven.signal_upload import send_signals
from einthoven.store_rules import MAX_ROWS_PER_CALL
from einthoven.tls import pinned_context
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.kills_device import make_signal, open_store
from einthoven_bench.kills_journal import Journal, read_journal
from einthoven_bench.simulation.content import note_serial, serial_of
from einthoven_demo.server_process import ServerProcess
from einthoven_protocol.messages import AnnotationRow, NoteRow, ResultRow, Superseded

ROUNDS: Final = 3
"""Times that everyone syncs before they are compared."""
_LAST_MS: Final = 2**60
_MOST: Final = MAX_ROWS_PER_CALL
"""Rows of one kind that are read; an era makes fewer."""
_READERS: Final = 8
"""Signals that are asked for at a time."""
_PATIENCE: Final = 15
"""Times that a busy server is asked again, after as long as it says each."""

Place = tuple[int, int, int]
"""Alias, epoch and counter of a result."""


@dataclass(frozen=True, slots=True)
class Toll:
    """What the kills did.

    Attributes:
        acknowledged_lost: Results, notes and signals that the server acknowledged and does not hold as they were, and
            results that it did not hold until a repair gave them back.
        lost: Results, notes and signals that a store had and the server does not.
        doubled: Results and notes that the server holds more than once.
        divergences: Devices that do not show what the server holds, or whose digests differ.
        results: Results that were compared.
        notes: Notes that were.
        signals: Signals that were, sample by sample.
        repairs: Requests of repairs that devices made meanwhile.
        resumed: Uploads that went on from where one that was cut off had come to.
    """

    acknowledged_lost: int = 0
    lost: int = 0
    doubled: int = 0
    divergences: int = 0
    results: int = 0
    notes: int = 0
    signals: int = 0
    repairs: int = 0
    resumed: int = 0

    @property
    def none(self) -> bool:
        """Whether nothing was lost, doubled, or different."""
        return not (self.acknowledged_lost or self.lost or self.doubled or self.divergences)


@dataclass(frozen=True, slots=True)
class Shown:
    """What one store shows of its patient."""

    results: dict[Place, ResultRow]
    annotations: tuple[AnnotationRow, ...]
    notes: tuple[NoteRow, ...]
    superseded: tuple[Superseded, ...]


class SignalDesk:
    """Where a clinician reads signals.

    Args:
        process: The server.
        account: The clinician's.
    """

    def __init__(self, process: ServerProcess, account: Account) -> None:
        self._process = process
        self._authorization = Authorization(process.url, account)

    async def read(self, places: Iterable[Place]) -> dict[Place, bytes]:
        """The canonical form of the signals of results; those that the server does not have are left out.

        Raises:
            MeasurementFailed: It answers anything else than yes or no.
        """
        waiting, found = list(places), dict[Place, bytes]()
        connector = aiohttp.TCPConnector(ssl=pinned_context(self._process.ca_file.read_text(encoding="ascii")))

        async def reader(client: aiohttp.ClientSession) -> None:
            while waiting:
                place = waiting.pop()
                path = f"/v1/results/{place[0]}-{place[1]}-{place[2]}/signal"
                headers = await self._authorization.headers(client, "GET", path)
                async with client.get(self._process.url + path, headers=headers) as answer:
                    if answer.status == HTTPStatus.OK:
                        found[place] = await answer.read()
                    elif answer.status != HTTPStatus.NOT_FOUND:
                        raise MeasurementFailed(f"the server answered {answer.status} to a reader", "see its log", 1)

        async with aiohttp.ClientSession(connector=connector) as client:
            await asyncio.gather(*(reader(client) for _ in range(_READERS)))
        return found


def judge(homes: Sequence[Path], journals: Sequence[Path], witness: Path, desk: SignalDesk) -> Toll:
    """Sync all devices of one patient and compare them; nothing else may be running on them.

    Args:
        homes: Of the devices.
        journals: One a device.
        witness: Home of a device of the same patient that writes nothing.
        desk: Where signals are read.
    """
    stores = [open_store(home) for home in (*homes, witness)]
    try:
        asyncio.run(_settle(stores))
        shown = [_shown(store) for store in stores]
        equal = [store.sync_state().last_digest_equal is True for store in stores]
    finally:
        for store in stores:
            store.close()
    noted = [read_journal(journal) for journal in journals]
    places = {serial_of(row): place for place, row in shown[-1].results.items()}
    begun = set().union(*(one.begun for one in noted)) & places.keys()
    found = asyncio.run(desk.read(places[serial] for serial in sorted(begun)))
    signals = {serial: found[places[serial]] for serial in begun if places[serial] in found}
    return weigh(shown, equal, noted, signals)


def weigh(
    shown: Sequence[Shown], equal: Sequence[bool], noted: Sequence[Journal], signals: Mapping[int, bytes]
) -> Toll:
    """Say what is missing, there twice, or different. Pure.

    Args:
        shown: What each store shows, the witness's last.
        equal: Whether the digests of each were the server's.
        noted: What the devices noted.
        signals: Canonical forms of the signals that the server has, by serial of their results.
    """
    truth = shown[-1]
    there = Counter(serial_of(row) for row in truth.results.values())
    there_notes = Counter(note_serial(note) for note in truth.notes)
    segments = {serial: make_signal(serial) for serial in signals}
    whole = {serial for serial, one in segments.items() if signals[serial] == canonical_segment(one)}
    digests = {segment_digest(segments[serial]).hex() for serial in whole}
    return Toll(
        acknowledged_lost=sum(
            len(one.acknowledged - there.keys())
            + len(one.notes_acknowledged - there_notes.keys())
            + len(one.signals_acknowledged - digests)
            + one.given_back
            for one in noted
        ),
        lost=sum(
            len(one.kept - there.keys()) + len(one.notes - there_notes.keys()) + len(one.signals - whole)
            for one in noted
        ),
        doubled=sum(count > 1 for count in (*there.values(), *there_notes.values())),
        divergences=sum(one != truth for one in shown) + equal.count(False),
        results=len(truth.results),
        notes=len(truth.notes),
        signals=len(whole),
        repairs=sum(one.repairs for one in noted),
        resumed=sum(one.resumed for one in noted),
    )


async def _settle(stores: Sequence[Store]) -> None:
    for _ in range(ROUNDS):
        for store in stores:
            await _patiently(sync, store)
    for store in stores:
        await _patiently(send_signals, store)


async def _patiently(talk: Callable[[Store], Awaitable[object]], store: Store) -> None:
    """Once more where the server is busy: a database that starts anew takes its time."""
    for _ in range(_PATIENCE):
        try:
            await talk(store)
        except ServerBusy as busy:
            await asyncio.sleep(busy.retry_after_s)
        else:
            return
    await talk(store)


def _shown(store: Store) -> Shown:
    alias = load_identity(store).device_alias
    results = {
        (alias, stored.epoch, stored.result.counter): to_row(stored.result)
        for stored in store.results_between(0, _LAST_MS, limit=_MOST)
    }
    for found in store.replicas(0, _LAST_MS, limit=_MOST):
        results[found.device_alias, found.epoch, found.row.counter] = found.row
    if len(results) >= _MOST:
        raise MeasurementFailed("there are more results than can be compared", "make fewer rounds between two", 1)
    return Shown(
        results,
        tuple(store.annotations()),
        tuple(
            sorted(
                store.notes(0, _LAST_MS, limit=_MOST), key=lambda note: (note.device_alias, note.epoch, note.counter)
            )
        ),
        tuple(store.superseded()),
    )
