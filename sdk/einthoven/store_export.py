"""All that a store holds of a patient, as files that other software reads: a FHIR Bundle, EDF files, tables.

GDPR Art. 15 and 20: a copy for the person, in commonly used, machine-readable formats. What is exported is plain: the
folder's mode is its only protection, and ``README.txt`` in it says so.

It deliberately exports no settings (they hold this device's keys) and removes nothing from the store.

Invariants:
    1. The folder is there whole or not at all (``export_folder``).
    2. The local audit trail says of every export that it was made, before it can be seen.
    3. What is not in it is listed in it, with the reason.
    4. Memory does not grow with the number of results, beats or audit entries, but for a few bytes a recording.
    5. The same store gives the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from einthoven.clock import SystemClock
from einthoven.export_folder import ExportFolder, FinishedFile
from einthoven.export_signals import LostSignal, SignalExport, beats_of
from einthoven.fhir_bundle import (
    Resource,
    SignalFile,
    audit_event,
    bundle_bytes,
    communication,
    device,
    diary_entry,
    document_id,
    document_reference,
    patient,
)
from einthoven.fhir_results import (
    DescribedResult,
    Owner,
    instant,
    observation,
    result_text,
    risk_assessment,
)
from einthoven.identity import Identity, find_identity
from einthoven.ports import Clock, Store
from einthoven.result_rows import to_row
from einthoven.store_paging import all_audit_entries, all_beats, all_results
from einthoven.store_rules import MAX_ROWS_PER_CALL
from einthoven.store_values import AuditAction
from einthoven_protocol.limits import MAX_TIME_MS
from einthoven_protocol.messages import AnnotationRow, ResultId

MAX_SIGNAL_BYTES: Final = 64 * 2**20
"""Bytes of samples in one EDF file: three days at 128 Hz."""
NO_SERVER_URL: Final = "https://einthoven.invalid"
"""Base of a device's addresses that was never enrolled; this top-level name never exists (RFC 2606)."""
NO_OWNER: Final = Owner(tenant="", patient_id="local-patient", device_id="local-device", device_alias=0)
"""Whose a store's content is that was never enrolled."""

Notes = Mapping[ResultId, Sequence[AnnotationRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What one export wrote.

    Attributes:
        folder: Where.
        files: Every file in it.
        signals: Of them, the EDF and BDF files.
        results: Results in the bundle.
        annotations: Annotations in it.
        beats: Beats in ``beats.csv``.
        audit_entries: Entries of the audit trail in the bundle.
        lost: Results whose signal is in no file.
        quarantined: What the store lost to damage before.
        notes: Notes of the diary in the bundle.
    """

    folder: Path
    files: tuple[FinishedFile, ...]
    signals: tuple[SignalFile, ...]
    results: int
    annotations: int
    beats: int
    audit_entries: int
    lost: tuple[LostSignal, ...]
    quarantined: int
    notes: int = 0


@dataclass(slots=True)
class _Counts:
    results: int = 0
    annotations: int = 0
    beats: int = 0
    audit_entries: int = 0
    notes: int = 0
    replicas: int = 0


def export_store(
    store: Store,
    folder: Path | str,
    *,
    pseudonym: str | None = None,
    max_signal_bytes: int = MAX_SIGNAL_BYTES,
    clock: Clock | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> ExportReport:
    """Write all that a store holds to a new folder, unencrypted.

    Args:
        store: What to export.
        folder: Where to; its parent must exist, itself must not.
        pseudonym: What EDF files call the patient; nobody's name. Nothing, if not given.
        max_signal_bytes: Bytes of samples in one EDF file; a longer recording goes on in the next.
        clock: Tells now, for the audit trail; the system's, if not given.
        progress: Called with the number of results whose signal was looked at.

    Raises:
        InputError: The folder exists, an export to it was cut off, or the pseudonym can't be written.
        StoreIOError: The disk is full or says no; nothing is left behind.
        StoreError: The store can't be read.
        ValueError: ``max_signal_bytes`` is too small.
    """
    identity = find_identity(store)
    owner = _owner(identity)
    notes, counts = _notes(store), _Counts(replicas=store.stats().replicas)
    with ExportFolder(Path(folder)) as out:
        signals = SignalExport(
            store,
            out,
            device_alias=owner.device_alias,
            notes=notes,
            pseudonym=pseudonym,
            max_signal_bytes=max_signal_bytes,
            progress=progress,
        )
        signals.run()
        with out.file("bundle.json") as file:
            for piece in bundle_bytes(_resources(store, owner, signals, notes, counts), _base_url(identity)):
                file.write(piece)
        with out.file("beats.csv") as file:
            for line in _beat_lines(store, counts):
                file.write(line.encode("ascii"))
        quarantined = len(store.quarantined())
        with out.file("lost.csv") as file:
            for line in _lost_lines(store, owner, signals.lost):
                file.write(line.encode("utf-8"))
        with out.file("README.txt") as file:
            file.write(_readme(owner, signals, counts, quarantined).encode("utf-8"))
        digest = out.write_sums()
        store.record(AuditAction.EXPORTED, digest.hex(), at_ms=(clock or SystemClock()).now_ms())
        out.finish()
        return ExportReport(
            folder=Path(folder),
            files=out.files,
            signals=tuple(signals.files),
            results=counts.results,
            annotations=counts.annotations,
            beats=counts.beats,
            audit_entries=counts.audit_entries,
            lost=tuple(signals.lost),
            quarantined=quarantined,
            notes=counts.notes,
        )


def _owner(identity: Identity | None) -> Owner:
    if identity is None:
        return NO_OWNER
    return Owner(identity.tenant, identity.patient_id, identity.device_id, identity.device_alias)


def _base_url(identity: Identity | None) -> str:
    return f"{NO_SERVER_URL if identity is None else identity.url.rstrip('/')}/fhir/R4"


def _notes(store: Store) -> Notes:
    notes: defaultdict[ResultId, list[AnnotationRow]] = defaultdict(list)
    for row in store.annotations():
        notes[row.target].append(row)
    return notes


def _resources(store: Store, owner: Owner, signals: SignalExport, notes: Notes, counts: _Counts) -> Iterator[Resource]:
    yield patient(owner)
    yield device(owner)
    for file in signals.files:
        yield document_reference(owner, file)
    said: set[ResultId] = set()
    for stored in all_results(store):
        result = ResultId(owner.device_alias, stored.epoch, stored.result.counter)
        rows = tuple(notes.get(result, ()))
        described = DescribedResult(owner, result, to_row(stored.result), rows)
        resource = observation(described)
        place = signals.places.file_of(result.epoch, result.counter)
        if place is not None:
            source = document_id(owner, signals.files[place])
            resource["derivedFrom"] = [{"reference": f"DocumentReference/{source}"}]
        yield resource
        yield risk_assessment(described)
        counts.results += 1
        counts.annotations += len(rows)
        said |= {result} if rows else set()
    for target, others in notes.items():
        if target not in said:
            counts.annotations += len(others)
            yield from (communication(owner, note) for note in others)
    for diary_note in store.notes(0, MAX_TIME_MS, limit=MAX_ROWS_PER_CALL):
        counts.notes += 1
        yield diary_entry(owner, diary_note)
    for entry in all_audit_entries(store):
        counts.audit_entries += 1
        yield audit_event(owner, entry)


def _beat_lines(store: Store, counts: _Counts) -> Iterator[str]:
    yield "time_utc,at_ms,class\n"
    for at_ms, beat_class in beats_of(all_beats(store)):
        counts.beats += 1
        yield f"{instant(at_ms)},{at_ms},{beat_class.name.lower()}\n"


def _lost_lines(store: Store, owner: Owner, lost: Sequence[LostSignal]) -> Iterator[str]:
    """What is not in the export; places are opaque and hold no comma, but a reader should not have to rely on it."""
    yield "kind,place,time_utc,reason\n"
    for one in lost:
        first, last = (
            result_text(ResultId(owner.device_alias, one.epoch, counter))
            for counter in (one.first_counter, one.last_counter)
        )
        yield f'signal of results,"{first} to {last}",{instant(one.started_at_ms)},{one.reason.value}\n'
    for found in store.quarantined():
        place = found.place.replace('"', '""')
        kind, reason = found.kind.name.lower(), found.reason.name.lower().replace("_", " ")
        yield f'{kind},"{place}",{instant(found.found_at_ms)},damaged: {reason}\n'


def _readme(owner: Owner, signals: SignalExport, counts: _Counts, quarantined: int) -> str:
    lost = sum(one.last_counter - one.first_counter + 1 for one in signals.lost)
    return f"""EXPORT OF AN EINTHOVEN STORE

Everything that the device holds of patient {owner.patient_id}, and nothing of it is encrypted here:
keep this folder as you would keep a medical record, and delete it when it has served.
Not a medical device. A clinician has to confirm every finding.

bundle.json   FHIR R4 Bundle: {counts.results} results (an Observation and a RiskAssessment each),
              {counts.annotations} annotations, {counts.notes} notes, {counts.audit_entries} audit entries.
ecg-NNN.edf   {len(signals.files)} recordings of the raw signal: EDF+, or BDF+ where it is too large for 16 bits.
              1 uV a count, times in UTC. Gaps are gaps; a missing sample within a data record is the lowest count.
              Annotations: results, notes, beats. A beat is known by its time alone: where two recordings
              overlap in time, it is shown in both.
beats.csv     {counts.beats} beats: time, class (normal, supraventricular, ventricular, unknown).
lost.csv      What is not here and why: the signal of {lost} results, and {quarantined} things lost to damage before.
SHA256SUMS    Digests of all files; check them with: sha256sum -c SHA256SUMS

Not exported: the device's settings, which hold its keys, and {counts.replicas} results of the patient's other
devices, of which this one has no signal.
"""
