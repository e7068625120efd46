"""What it takes to mend: a device whose rows are not the server's, and one that was put back from a backup.

Bytes are counted as in ``sync_measuring``. It deliberately makes no figures of its outcomes (``sync_figures``).

Invariants:
    1. A measurement that did not mend what it was to mend raises ``MeasurementFailed``.
    2. Which rows differ is drawn anew for each device: no figure rests on one draw.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from einthoven.results import WindowResult
from einthoven.syncing import EXCHANGE_PATH
from einthoven.transport_https import HttpsTransport
from einthoven_bench.errors import MeasurementFailed
from einthoven_bench.store_inserting import encrypted_store
from einthoven_bench.sync_content import drawn_results
from einthoven_bench.sync_measuring import Carried, Device, require_all, require_replicas
from einthoven_bench.sync_site import Site
from einthoven_protocol import codec
from einthoven_protocol.messages import IdentifiedResult

DIFFERENCES: Final = 100
ROWS_BEHIND: Final = 500


class LosingTransport:
    """A transport that keeps some results of the feed to itself, and changes others, so that a device holds others.

    Args:
        inner: What carries.
        lost: Counters of the results that never arrive.
        changed: Counters of those that arrive with another verdict.
        on_repair: Called before the first request that is no exchange.
    """

    def __init__(
        self, inner: HttpsTransport, lost: frozenset[int], changed: frozenset[int], on_repair: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._lost = lost
        self._changed = changed
        self._on_repair = on_repair
        self.posts_since_repair = 0

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """See ``Transport.post``."""
        if path != EXCHANGE_PATH and not self.posts_since_repair:
            self._on_repair()
        if path != EXCHANGE_PATH or self.posts_since_repair:
            self.posts_since_repair += 1
        raw = await self._inner.post(path, body, headers)
        if path != EXCHANGE_PATH:
            return raw
        response = codec.decode_response(raw)
        arrived = tuple(self._as_it_arrives(one) for one in response.results if one.row.counter not in self._lost)
        return codec.encode_response(msgspec.structs.replace(response, results=arrived))

    async def close(self) -> None:
        """See ``Transport.close``."""
        await self._inner.close()

    def _as_it_arrives(self, one: IdentifiedResult) -> IdentifiedResult:
        if one.row.counter not in self._changed:
            return one
        row = msgspec.structs.replace(one.row, confidence_permille=one.row.confidence_permille ^ 1)
        return msgspec.structs.replace(one, row=row)


def measure_repaired(
    site: Site, folder: Path, judged: Sequence[WindowResult], rows: int, draws: int
) -> tuple[list[tuple[Carried, int]], list[tuple[Carried, int]]]:
    """New devices of a patient hold other rows than the server: what it takes until they hold the same.

    Returns:
        Of ``draws`` devices that lack 100 scattered results, and of as many on which 50 are others than on the server
        (100 differences, half of them on each side): the traffic from the repair's first byte on, and its round trips,
        the exchange that ends it among them, if there is one.
    """
    patient_id = site.patient()
    with ExitStack() as stack:
        own = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        one = stack.enter_context(Device(site, own / "one", patient_id, counted=False))
        one.append(drawn_results(judged, rows, 3))
        require_all(one.sync(), rows)
        lacking, differing = [], []
        for draw in range(draws):
            places = random.Random(draw).sample(range(1, rows + 1), DIFFERENCES)  # noqa: S311 - places, not a secret
            lost, changed = frozenset(places), frozenset(places[: DIFFERENCES // 2])
            lacking.append(_mended(site, own / f"lacking-{draw}", patient_id, rows, lost, frozenset()))
            differing.append(_mended(site, own / f"differing-{draw}", patient_id, rows, frozenset(), changed))
    return lacking, differing


def _mended(
    site: Site, folder: Path, patient_id: str, rows: int, lost: frozenset[int], changed: frozenset[int]
) -> tuple[Carried, int]:
    """A new device, to which the feed came so: what its repair carried, and in how many round trips."""
    with Device(site, folder, patient_id, counted=True) as device:
        losing = LosingTransport(device.transport(), lost, changed, site.proxy.reset)
        report = device.sync(losing)
        traffic = site.proxy.traffic()
        if not losing.posts_since_repair or not report.state.last_digest_equal:
            raise MeasurementFailed("rows were lost and not mended", "this is a defect", 1)
        require_replicas(device, rows)
        return Carried(DIFFERENCES, traffic, report), losing.posts_since_repair


def measure_restored(site: Site, folder: Path, judged: Sequence[WindowResult], rows: int) -> Carried:
    """A device whose store is put back from a backup that is 500 rows old: what it takes to have all again."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path = Path(own) / "one"
        with Device(site, path, site.patient(), counted=True) as device:
            device.append(drawn_results(judged, rows, 1))
            device.sync()
            backup = Path(own) / "backup"
            device.store.close()
            shutil.copytree(path, backup)
            device.store = encrypted_store(device.path)
            device.append(drawn_results(judged, ROWS_BEHIND, 2))
            device.sync()
            device.store.close()
            _put_back(backup, path)
            device.store = encrypted_store(device.path)
            carried = device.synced(ROWS_BEHIND)
            require_replicas(device, ROWS_BEHIND)
            return carried


def _put_back(backup: Path, path: Path) -> None:
    """All files of the store as they were, but its anchor, which no backup holds."""
    for file in path.iterdir():
        if not file.name.endswith(".anchor"):
            file.unlink()
    for file in backup.iterdir():
        if not file.name.endswith(".anchor"):
            shutil.copy2(file, path / file.name)
