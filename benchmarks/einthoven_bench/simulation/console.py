"""What people do at the server: clinicians' words, notes, deletions, documents; and devices of a version to come.

It deliberately goes through the server's writer, as the addresses do, and knows nothing of permissions.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from einthoven.result_rows import to_row
from einthoven.sync_requests import CAPABILITIES
from einthoven_bench.simulation.content import RHYTHMS, comment_text, make_result, note_text, serial_of
from einthoven_bench.simulation.holdings import Holdings, read_holdings
from einthoven_bench.simulation.registry import patient_id
from einthoven_bench.simulation.server import EXCHANGE_PATH, Envelope, SimulatedServer
from einthoven_bench.simulation.truth import Truth
from einthoven_protocol import codec, merkle
from einthoven_protocol.canonical import encode_result_row
from einthoven_protocol.messages import (
    AnnotationRow,
    ExchangeRequest,
    FurtherRegister,
    NoteRow,
    Register,
    ResultId,
    ResultRow,
    RowKind,
    Seal,
    Tombstone,
)
from einthoven_server.records.changes import Annotate, Delete, PutDocument, WriteNote

CLINICIAN: Final = "clinician"
FOR_ALL: Final = ("models/rhythm", "settings/tenant")
FOR_ONE: Final = ("settings/app", "consents/research")
"""Names of documents; one that is everybody's is no patient's (the addresses refuse it)."""


class Console:
    """The people at the server.

    Args:
        server: Whose.
        truth: Told what they delete.
    """

    def __init__(self, server: SimulatedServer, truth: Truth) -> None:
        self._server = server
        self._truth = truth
        self._newer: dict[int, NewerDevice] = {}
        self.documents = FOR_ALL + FOR_ONE

    async def _held(self, patient: int) -> Holdings:
        return await read_holdings(self._server.changes, self._server.registry.devices_of(patient))

    async def annotate(self, patient: int, pick: int, fields: int) -> None:
        """Say something of a result that is there."""
        held = await self._held(patient)
        if not held.results:
            return
        targets = sorted(held.results)
        target = targets[-1 - pick % len(targets)]
        device = next(one for one in self._server.registry.devices.values() if one.alias == target.device_alias)
        comment = comment_text(self._truth.next_serial()) if fields & 2 else None
        rhythm = RHYTHMS[pick % len(RHYTHMS)] if fields & 1 else None
        await self._server.change(
            lambda event: Annotate(device, target, CLINICIAN, rhythm, comment, event, self._server.now_ms())
        )

    async def note(self, patient: int) -> None:
        """Write into a patient's diary."""
        name, text = patient_id(patient), note_text(self._truth.next_serial())
        key, now_ms = self._server.registry.patient_key(name), self._server.now_ms()
        await self._server.change(lambda event: WriteNote(name, key, CLINICIAN, now_ms, text, event, now_ms))

    async def delete(self, patient: int, pick: int, kind: int) -> None:
        """Have a row deleted that is there."""
        held = await self._held(patient)
        row = self._picked(held, pick, kind)
        if row is None:
            return
        name = patient_id(patient)
        key, now_ms = self._server.registry.patient_key(name), self._server.now_ms()
        await self._server.change(lambda event: Delete(name, key, (row,), event, now_ms))

    def _picked(self, held: Holdings, pick: int, kind: int) -> Tombstone | None:
        """The row; what goes with it is noted as deleted before it is."""
        truth = self._truth
        if kind == RowKind.RESULT and held.results:
            target = sorted(held.results)[-1 - pick % len(held.results)]
            truth.deleted_serials.add(serial_of(held.results[target]))
            truth.deleted_targets.add(target)
            return Tombstone(RowKind.RESULT, target.device_alias, target.epoch, target.counter)
        if kind == RowKind.ANNOTATION and held.annotations:
            target, author = sorted(held.annotations)[-1 - pick % len(held.annotations)]
            truth.took_back_words(held.annotations[target, author])
            return Tombstone(RowKind.ANNOTATION, target.device_alias, target.epoch, target.counter, author)
        if kind == RowKind.NOTE and held.notes:
            place = sorted(held.notes)[-1 - pick % len(held.notes)]
            truth.took_back_note(held.notes[place])
            return Tombstone(RowKind.NOTE, place.device_alias, place.epoch, place.counter)
        return None

    async def decide(self, patient: int, name: int) -> None:
        """Publish the next version of a document."""
        whose = "" if patient < 0 else patient_id(patient)
        key = None if patient < 0 else self._server.registry.patient_key(whose)
        names = FOR_ALL if patient < 0 else FOR_ONE
        document = await self._server.signed_document(whose, names[name])
        now_ms = self._server.now_ms()
        await self._server.change(lambda event: PutDocument(whose, key, document, event, now_ms))

    async def push_newer(self, patient: int, count: int) -> None:
        """Have the patient's device of a version to come push."""
        device = self._newer.get(patient)
        if device is None:
            device = self._newer[patient] = NewerDevice(self._server, self._truth, patient)
        await device.push(count)


class NewerDevice:
    """A device of a version to come: its rows have columns, and its words registers, that nobody here knows.

    It deliberately keeps no replica: it pushes, and counts on what it sent. It asks again until it was heard.
    """

    def __init__(self, server: SimulatedServer, truth: Truth, patient: int) -> None:
        self._server = server
        self._truth = truth
        self._identity, _ = server.registry.enrol(patient)
        self._requests = 0
        self._rows: list[ResultRow] = []
        self._notes: list[NoteRow] = []

    async def push(self, count: int) -> None:
        """Push new results, a note, and words on the first of the results; all again that may not have arrived."""
        now_ms = self._server.now_ms()
        for _ in range(count):
            row = to_row(make_result(self._truth.next_serial(), now_ms, urgent=False))
            extra = ((64, len(self._rows) + 1), (67, b"later"))
            self._rows.append(msgspec.structs.replace(row, counter=len(self._rows) + 1, extra=extra))
        self._notes.append(
            NoteRow(
                device_alias=self._identity.device_alias,
                epoch=1,
                counter=len(self._notes) + 1,
                author=self._identity.patient_id,
                at_ms=now_ms,
                text=note_text(self._truth.next_serial()),
                extra=((65, b"mood"), (66, 7)),
            )
        )
        request = ExchangeRequest(
            device_alias=self._identity.device_alias,
            epoch=1,
            capabilities=int(CAPABILITIES),
            results=tuple(self._rows),
            annotations=(self._words(now_ms),),
            annotation_bases=((0, 0),),
            seals=(self._seal(),),
            notes=tuple(self._notes[-100:]),
        )
        self._requests += 1
        nonce = f"newer {self._identity.device_id} {self._requests:08d}"
        await self._server.post(
            Envelope(self._identity.device_id, EXCHANGE_PATH, codec.encode_request(request), nonce, now_ms)
        )

    def _words(self, now_ms: int) -> AnnotationRow:
        empty = Register("", 0)
        return AnnotationRow(
            target=ResultId(self._identity.device_alias, 1, 1),
            author=self._identity.patient_id,
            rhythm=empty,
            comment=empty,
            further=(FurtherRegister(3, (now_ms << 16) + 1, b"register of a later version"),),
        )

    def _seal(self) -> Seal:
        results_root = merkle.tree_hash([encode_result_row(row) for row in self._rows])
        segments_root = merkle.tree_hash([hashlib.sha256(b"none").digest() for _ in self._rows])
        last = len(self._rows)
        message = merkle.seal_message(self._identity.device_alias, 1, 1, last, results_root, segments_root)
        return Seal(
            epoch=1,
            first_counter=1,
            last_counter=last,
            results_root=results_root,
            segments_root=segments_root,
            signature=self._identity.sign(message),
        )
