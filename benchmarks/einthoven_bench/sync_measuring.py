"""What is measured of sync: rows a second, bytes on the socket, round trips, with real devices and a real server.

Bytes are those that ``CountingProxy`` saw, both ways, TLS records and HTTP heads among them, on a connection that is
open, except where a figure says otherwise. It deliberately makes no figures of its outcomes (``sync_figures``).

Invariants:
    1. A measurement that did not do its work raises ``MeasurementFailed``: rows are counted where they arrived, and
       digests must be equal.
    2. Times are of runs without the proxy.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven import SqlCipherStore, SyncReport, annotate
from einthoven.identity import load_identity
from einthoven.ports import Transport
from einthoven.results import WindowResult
from einthoven.syncing import sync
from einthoven.transport_https import HttpsTransport
from einthoven_bench.counting_proxy import Traffic
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.store_inserting import encrypted_store
from einthoven_bench.sync_content import drawn_results, words
from einthoven_bench.sync_site import Site
from einthoven_protocol.limits import MAX_TIME_MS

EDITS: Final = 100
_READ_ROWS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows that went from a device over the server to a second device, and what it took.

    Attributes:
        rows: How many.
        up_s: Seconds until the server had acknowledged all, wall.
        down_s: Seconds until the second device had committed all, wall.
        cpu_s: Processor time of the two devices, which are one process.
    """

    rows: int
    up_s: float
    down_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Carried:
    """What one piece of work cost on the wire.

    Attributes:
        rows: Rows that it was about.
        traffic: Bytes on the socket.
        report: What the device says of it.
    """

    rows: int
    traffic: Traffic
    report: SyncReport


class Device:
    """A device of a site: a SQLCipher store, enrolled, and one connection that stays open.

    Args:
        site: The server.
        folder: Where its store lies.
        patient_id: Whose it is.
        counted: Whether its traffic goes through the proxy.
    """

    def __init__(self, site: Site, folder: Path, patient_id: str, *, counted: bool) -> None:
        self._site = site
        self.path = folder / "ecg.db"
        folder.mkdir(parents=True)
        self.store: SqlCipherStore = encrypted_store(self.path)
        site.enrol(self.store, patient_id)
        if counted:
            site.lead_through_proxy(self.store)
        self._runner = asyncio.Runner()
        self._transport: HttpsTransport | None = None

    def sync(self, transport: Transport | None = None) -> SyncReport:
        """Sync over the open connection."""
        return self._runner.run(sync(self.store, transport=transport or self.transport()))

    def transport(self) -> HttpsTransport:
        """The connection."""
        if self._transport is None:
            self._transport = HttpsTransport(load_identity(self.store))
        return self._transport

    def synced(self, rows: int = 0) -> Carried:
        """Sync, and count."""
        self._site.proxy.reset()
        report = self.sync()
        if not report.state.last_digest_equal:
            raise MeasurementFailed("device and server hold different rows after a sync", "this is a defect", 1)
        return Carried(rows, self._site.proxy.traffic(), report)

    def append(self, results: Sequence[WindowResult]) -> None:
        """Keep results."""
        self.store.append_results(results)

    def close(self) -> None:
        """Release everything."""
        if self._transport is not None:
            self._runner.run(self._transport.close())
        self._runner.close()
        self.store.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measure_moved(site: Site, folder: Path, results: Sequence[WindowResult]) -> Moved:
    """Results of one device, through the server, to a second device of the patient."""
    patient_id = site.patient()
    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        one = stack.enter_context(Device(site, own / "one", patient_id, counted=False))
        two = stack.enter_context(Device(site, own / "two", patient_id, counted=False))
        for device in (one, two):  # who is there, and what the server can, is known in life
            device.sync()
        one.append(results)
        cpu_began, began = time.process_time(), time.perf_counter()
        require_all(one.sync(), len(results))
        between = time.perf_counter()
        two.sync()
        ended, cpu_s = time.perf_counter(), time.process_time() - cpu_began
        require_replicas(two, len(results))
        return Moved(len(results), between - began, ended - between, cpu_s)


def measure_bulk(site: Site, folder: Path, results: Sequence[WindowResult]) -> tuple[Carried, Carried]:
    """What the same way costs in bytes: up, and down to the second device."""
    patient_id = site.patient()
    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        one = stack.enter_context(Device(site, own / "one", patient_id, counted=True))
        two = stack.enter_context(Device(site, own / "two", patient_id, counted=True))
        for device in (one, two):
            device.sync()
        one.append(results)
        up = one.synced(len(results))
        require_all(up.report, len(results))
        down = two.synced(len(results))
        require_replicas(two, len(results))
        return up, down


def measure_edits(site: Site, folder: Path, judged: Sequence[WindowResult], seed: int = 0) -> tuple[Carried, Carried]:
    """One field of 100 results changed, each of which has words already; then a sync with nothing to do."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        Device(site, Path(own) / "one", site.patient(), counted=True) as device,
    ):
        device.append(drawn_results(judged, 10 * EDITS, seed))
        device.sync()
        chosen = range(5, 10 * EDITS + 1, 10)
        said = words(seed)
        for counter in chosen:
            annotate(device.store, counter, rhythm="A", comment=next(said))
        device.sync()
        for counter in chosen:
            annotate(device.store, counter, comment=next(said))
        edits = device.synced(EDITS)
        if edits.report.annotations_up != EDITS:
            raise MeasurementFailed("not every edit was sent", "this is a defect", 1)
        return edits, device.synced()


def require_all(report: SyncReport, rows: int) -> None:
    """Refuse to measure what did not happen: the server took so many results.

    Raises:
        MeasurementFailed: It did not.
    """
    if report.results_up != rows or report.refused or not report.state.last_digest_equal:
        raise MeasurementFailed("the server did not take every result", "this is a defect", 1)


def require_replicas(device: Device, rows: int) -> None:
    """Refuse to measure what did not happen: a device holds so many results of others.

    Raises:
        MeasurementFailed: It does not.
    """
    if len(device.store.replicas(0, MAX_TIME_MS, limit=_READ_ROWS)) != rows:
        raise MeasurementFailed("not every result came down", "this is a defect", 1)
