"""What is in the export of a patient, piece by piece (``patient_export`` sends it).

Invariants:
    1. Memory does not grow with results: pages, and one EDF at a time.
    2. Whoever loses the patient meanwhile gets no page that begins later.
    3. Of everything those fields are shown that the caller's role sees.
    4. A signal that does not fit EDF is in ``signals-as-fhir.ndjson``; one that can't be read is named in the manifest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from einthoven_protocol.messages import ResultId
from einthoven_server import limits
from einthoven_server.errors import EnvelopeRefused, NotFound
from einthoven_server.fhir import consents as fhir_consents
from einthoven_server.fhir.devices import device_resource
from einthoven_server.fhir.parts import FhirParts
from einthoven_server.fhir.result_addresses import ResultAddresses
from einthoven_server.identity.access import Access
from einthoven_server.identity.break_glass import BreakGlass, Place
from einthoven_server.identity.care_teams import CareTeams
from einthoven_server.identity.permissions import Resource
from einthoven_server.privacy.signal_files import SignalFile, SignalFiles, fits
from einthoven_server.privacy.zip_stream import FinishedEntry, ZipEntry, ZipStream
from einthoven_server.records.note_addresses import note_document
from einthoven_server.records.resource_ids import Kind, result_text
from einthoven_server.records.store import RecordStore
from einthoven_server.records.stored_result import StoredResult
from einthoven_server.records.waveforms import Waveform, Waveforms
from einthoven_server.records.word_store import WordStore

_OF_RESULTS: Final = (Kind.OBSERVATION, Kind.RISK, Kind.REPORT, Kind.PROVENANCE)


@dataclass(frozen=True, slots=True)
class ExportParts:
    """What an export reads.

    Attributes:
        fhir: Patients, devices, consents, the index of results.
        store: Results.
        words: Notes and documents.
        waveforms: ECGs.
        care_teams: Who treats whom.
        break_glass: Who looked at whom in an emergency.
    """

    fhir: FhirParts
    store: RecordStore
    words: WordStore
    waveforms: Waveforms
    care_teams: CareTeams
    break_glass: BreakGlass


@dataclass(slots=True)
class ExportUnderWay:
    """One export under way.

    Attributes:
        access: What may be shown.
        zip: The archive.
        entries: What is in it.
        files: Its signals.
        unreadable: Results whose signal can't be read.
        unfit: Whether a signal did not fit EDF.
    """

    access: Access
    zip: ZipStream
    entries: list[FinishedEntry] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unfit: bool = False

    @property
    def patient_id(self) -> str:
        """Whose."""
        return self.access.patient_id


class ExportContent:
    """Makes exports.

    Args:
        parts: What is read.
        base_url: Of the FHIR service.
    """

    def __init__(self, parts: ExportParts, base_url: str) -> None:
        self._parts = parts
        self._base_url = base_url
        self._results = ResultAddresses(
            tenant=parts.fhir.tenant,
            base_url=base_url,
            store=parts.store,
            index=parts.fhir.index,
            devices=parts.fhir.devices,
            patients=parts.fhir.patients,
            waveforms=parts.waveforms,
        )

    async def pieces(self, archive: ExportUnderWay) -> AsyncIterator[None]:
        """Make the archive, piece by piece; after each one, what was made can be sent.

        Raises:
            NotFound: The caller may not see the patient any more.
            EnvelopeRefused: Something that is kept can't be opened.
            Busy: The database does not answer.
        """
        steps = (
            ("bundle.json", b'{"resourceType":"Bundle","type":"collection","entry":[\n', self._bundle(archive)),
            ("notes.json", b'{"notes":[\n', self._notes(archive)),
            ("documents.json", b'{"documents":[\n', self._documents(archive)),
            ("care-team.json", b'{"members":[\n', self._members(archive)),
            ("accesses.json", b'{"accesses":[\n', self._accesses(archive)),
        )
        for name, head, pages in steps:
            async for _ in self._list(archive, name, head, pages):
                yield
        async for _ in self._signals(archive):
            yield
        if archive.unfit:
            async for _ in self._signals_as_fhir(archive):
                yield
        manifest = {
            "patient_id": archive.patient_id,
            "entries": [one._asdict() for one in archive.entries],
            "signals": archive.files,
            "unreadable_signals": archive.unreadable,
        }
        with archive.zip.entry("manifest.json") as entry:
            entry.write(msgspec.json.format(msgspec.json.encode(manifest)))
        yield

    async def _list(
        self, archive: ExportUnderWay, name: str, head: bytes, pages: AsyncIterator[Sequence[bytes]]
    ) -> AsyncIterator[None]:
        with archive.zip.entry(name) as entry:
            entry.write(head)
            first = True
            async for page in pages:
                if page:
                    await _write(entry, (b"" if first else b",\n") + b",\n".join(page))
                    first = False
                    yield
            entry.write(b"\n]}\n")
        archive.entries.append(entry.finished())
        yield

    async def _still(self, archive: ExportUnderWay) -> None:
        if not await archive.access.seen([archive.patient_id]):
            raise NotFound("no such patient", "check the id")

    async def _pages(self, archive: ExportUnderWay) -> AsyncIterator[list[StoredResult]]:
        place = None
        while some := await self._parts.store.results_of(archive.patient_id, place, limits.PATIENT_EXPORT_READ_ROWS):
            place = some[-1].result
            await self._still(archive)
            yield some

    async def _bundle(self, archive: ExportUnderWay) -> AsyncIterator[list[bytes]]:
        access, fhir = archive.access, self._parts.fhir
        yield [
            self._entry(access.shown(Resource.PATIENT, one.shown()))
            for one in await fhir.patients.by_ids([archive.patient_id])
        ]
        devices = [device_resource(one) for one in await fhir.devices.of_patient(archive.patient_id)]
        yield [self._entry(access.shown(Resource.DEVICE, one)) for one in devices]
        agreed = [fhir_consents.shown(one) for one in await fhir.consents.of_patient(archive.patient_id)]
        yield [self._entry(access.shown(Resource.CONSENT, one)) for one in agreed]
        async for some in self._pages(archive):
            for kind in _OF_RESULTS:
                made = await self._results.shown(kind, some, access)
                yield [self._raw(one.kind, one.resource_id, one.body) for one in made]

    def _entry(self, resource: dict[str, Any]) -> bytes:
        return self._raw(resource["resourceType"], resource["id"], msgspec.json.encode(resource))

    def _raw(self, kind: str, resource_id: str, body: bytes) -> bytes:
        return b'{"fullUrl":"%b/%b/%b","resource":%b}' % (
            self._base_url.encode(),
            kind.encode(),
            resource_id.encode(),
            body,
        )

    async def _notes(self, archive: ExportUnderWay) -> AsyncIterator[list[bytes]]:
        place = None
        while some := await self._parts.words.notes_of(archive.patient_id, place, limits.PATIENT_EXPORT_READ_ROWS):
            place = ResultId(some[-1].device_alias, some[-1].epoch, some[-1].counter)
            await self._still(archive)
            yield _encoded(note_document(archive.access, one) for one in some)

    async def _documents(self, archive: ExportUnderWay) -> AsyncIterator[list[bytes]]:
        found = await self._parts.words.documents_of(archive.patient_id)
        yield _encoded(
            archive.access.shown(
                Resource.DOCUMENT,
                {
                    "name": one.name,
                    "version": one.version,
                    "issued_at_ms": one.issued_at_ms,
                    "body": msgspec.Raw(one.body),
                },
            )
            for one in found
        )

    async def _members(self, archive: ExportUnderWay) -> AsyncIterator[list[bytes]]:
        found = await self._parts.care_teams.members(archive.patient_id)
        yield _encoded(archive.access.shown(Resource.CARE_TEAM_MEMBER, one._asdict()) for one in found)

    async def _accesses(self, archive: ExportUnderWay) -> AsyncIterator[list[bytes]]:
        place = None
        limit = limits.BREAK_GLASS_PAGE_ROWS
        while some := await self._parts.break_glass.newest(archive.patient_id, place, limit):
            place = Place(some[-1].opened_at_ms, some[-1].access_id)
            yield _encoded(archive.access.shown(Resource.BREAK_GLASS, one._asdict()) for one in some)

    async def _waveforms(self, archive: ExportUnderWay) -> AsyncIterator[tuple[StoredResult, Waveform | None]]:
        """Results whose signal is stored, with it; with none where it can't be read."""
        async for some in self._pages(archive):
            held = await self._parts.waveforms.among([one.result for one in some])
            for one in (one for one in some if one.result in held):
                try:
                    yield one, await self._parts.waveforms.of(one.result)
                except EnvelopeRefused:
                    yield one, None

    async def _signals(self, archive: ExportUnderWay) -> AsyncIterator[None]:
        files = SignalFiles()
        async for one, waveform in self._waveforms(archive):
            if waveform is None:
                if len(archive.unreadable) < limits.PATIENT_EXPORT_UNREADABLE_MAX:
                    archive.unreadable.append(result_text(one.result))
                continue
            if not await asyncio.to_thread(fits, waveform):
                archive.unfit = True
                continue
            done = await asyncio.to_thread(files.add, one.result, one.row.started_at_ms, waveform)
            if done is not None:
                await _add(archive, done)
                yield
        last = await asyncio.to_thread(files.finish)
        if last is not None:
            await _add(archive, last)
            yield

    async def _signals_as_fhir(self, archive: ExportUnderWay) -> AsyncIterator[None]:
        with archive.zip.entry("signals-as-fhir.ndjson") as entry:
            async for one, waveform in self._waveforms(archive):
                if waveform is not None and not await asyncio.to_thread(fits, waveform):
                    for shown in await self._results.shown(Kind.ECG, [one], archive.access):
                        await _write(entry, shown.body + b"\n")
                        yield
        archive.entries.append(entry.finished())


def _encoded(documents: Iterable[dict[str, Any]]) -> list[bytes]:
    return [msgspec.json.encode(one) for one in documents]


async def _write(entry: ZipEntry, octets: bytes) -> None:
    """Compress where it keeps nobody waiting."""
    await asyncio.to_thread(entry.write, octets)


async def _add(archive: ExportUnderWay, file: SignalFile) -> None:
    with archive.zip.entry(file.name) as entry:
        await _write(entry, file.octets)
    archive.entries.append(entry.finished())
    archive.files.append(
        {
            "name": file.name,
            "first": result_text(file.first),
            "last": result_text(file.last),
            "started_at_ms": file.started_at_ms,
        }
    )
