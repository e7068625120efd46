"""From the bytes of an upload to a stored chunk, and from there to a result's samples.

It deliberately knows no HTTP. What takes long (decoding, encryption) runs in threads, ``VERIFYING_MAX`` at a time, so
that the event loop and its memory stay small whatever comes.

Invariants:
    1. An upload ends in one of two ways: its chunk is durable, listed and audited; or it is refused and forgotten.
    2. A crash in between leaves at most an object that no list names, under the name that the next try replaces.
    3. No object is written in plain text: it is sealed with the patient's key, bound to tenant, patient, device, chunk
       and key version.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from einthoven.errors import RecordFormatError
from einthoven.segments import canonical_segment, decode_segment
from einthoven_server.audit.chain import Event
from einthoven_server.envelope import PatientKey
from einthoven_server.errors import EnvelopeRefused, Malformed
from einthoven_server.identity.callers import Device
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.signals import quotas
from einthoven_server.signals.catalog import KeptChunk, SignalCatalog, SignalPlace
from einthoven_server.signals.signal_store import SignalStore
from einthoven_server.signals.tus import Upload
from einthoven_server.signals.uploads import UploadStore
from einthoven_server.signals.verifying import check_parcel, open_parcel

_TABLE, _COLUMN = "signal_chunk", "content"


class SignalReceiver:
    """Takes whole uploads, and reads what they brought.

    Args:
        catalog: Lists of what is stored.
        uploads: Uploads under way.
        store: Where chunks lie.
        keys: Patients' data keys.
    """

    def __init__(self, catalog: SignalCatalog, uploads: UploadStore, store: SignalStore, keys: PatientKeys) -> None:
        self._catalog = catalog
        self._uploads = uploads
        self._store = store
        self._keys = keys
        self._turns = asyncio.Semaphore(quotas.VERIFYING_MAX)

    async def finish(self, device: Device, upload: Upload, rest: bytes, event: Event, now_ms: int) -> None:
        """Verify an upload and keep its chunk; durable on return.

        Args:
            device: Whose it is.
            upload: Where it stands.
            rest: All bytes from there on.
            event: Audit event of the request.
            now_ms: Now, ms since 1970.

        Raises:
            Malformed: It is refused, and forgotten.
            Busy: It can't be kept now; what was durable of it is still there.
        """
        async with self._turns:
            octets = await self._uploads.content(device, upload) + rest if upload.offset else rest
            try:
                await self._keep(device, upload, octets, event, now_ms)
            except Malformed:
                await self._uploads.remove(upload)
                raise

    async def _keep(self, device: Device, upload: Upload, octets: bytes, event: Event, now_ms: int) -> None:
        parcel = await asyncio.to_thread(open_parcel, octets, upload.chunk, device.alias)
        segments = parcel.chunk.segments
        runs = sorted({proof.seal for proof in parcel.proofs})
        held = await self._catalog.sealed(device, runs, [(one.epoch, one.counter) for one in segments])
        await asyncio.to_thread(check_parcel, parcel, held)
        sealed = await asyncio.to_thread(
            device.patient_key.seal, parcel.octets, _TABLE, _COLUMN, _row(device.alias, upload.chunk)
        )
        await self._store.put(self._name(device.patient_id, device.alias, upload.chunk), sealed)
        await self._catalog.keep(KeptChunk(device, upload, segments, len(parcel.octets), now_ms, event))

    async def samples(self, place: SignalPlace) -> bytes:
        """The canonical form of a stored signal (``einthoven.segments``), checked against its digest.

        Raises:
            EnvelopeRefused: The object is gone, or not what was stored.
            Busy: The store can't be reached.
        """
        sealed = await self._store.get(self._name(place.patient_id, place.device_alias, place.chunk))
        if sealed is None:
            raise EnvelopeRefused("a stored signal's object is gone", "restore the place for signals from a backup")
        key = await self._keys.get(place.patient_id)
        async with self._turns:
            return await asyncio.to_thread(_opened, key, place, sealed)

    def _name(self, patient_id: str, alias: int, chunk: bytes) -> str:
        """A patient's objects lie in one folder, so that erasing a patient can find them."""
        return f"{self._catalog.tenant}/{patient_id}/{alias}/{chunk.hex()}"


def _opened(key: PatientKey, place: SignalPlace, sealed: bytes) -> bytes:
    chunk = key.open(sealed, _TABLE, _COLUMN, _row(place.device_alias, place.chunk))
    try:
        octets = canonical_segment(decode_segment(chunk[place.first_byte : place.first_byte + place.n_bytes]))
    except RecordFormatError as error:
        raise EnvelopeRefused("a stored signal can't be read", "use the version that took it") from error
    if not hmac.compare_digest(hashlib.sha256(octets).digest(), place.digest):
        raise EnvelopeRefused("a stored signal is not that of its digest", "restore the database from a backup")
    return octets


def _row(alias: int, chunk: bytes) -> str:
    return f"{alias}/{chunk.hex()}"
