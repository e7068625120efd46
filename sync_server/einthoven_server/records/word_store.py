"""Reading what people wrote and what the server decided: notes, writes that were overtaken, documents.

It deliberately writes nothing: ``writer`` is the only one that does.

Invariants:
    1. Every query names shard and tenant, and a patient where there is one; nothing of another is found.
    2. What is returned was opened with the patient's key and found in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from einthoven_protocol.messages import Document, NoteRow, ResultId, Superseded
from einthoven_server.database import Database, Scope
from einthoven_server.patient_keys import PatientKeys
from einthoven_server.records import sealing
from einthoven_server.records.commits import WHOLE_TENANT

_OF_PATIENT: Final = "WHERE shard = $1 AND tenant = $2 AND patient_id = $3 AND "
_NOTE: Final = f"SELECT device_alias, epoch, counter, row_sealed FROM note {_OF_PATIENT}"  # noqa: S608  # constants
_START: Final = ResultId(-1, 0, 0)


class Overtaken(NamedTuple):
    """A register that was overtaken: by one that had not seen it (``concurrent``), or by a later one."""

    row: Superseded
    concurrent: bool


class WordStore:
    """Notes, overtaken writes and documents of one tenant.

    Args:
        database: Where they are.
        scope: Shard and tenant.
        keys: Patients' data keys.
    """

    def __init__(self, database: Database, scope: Scope, keys: PatientKeys) -> None:
        self._database = database
        self._scope = scope
        self._keys = keys

    async def notes_of(self, patient_id: str, after: ResultId | None, limit: int) -> list[NoteRow]:
        """Notes of a patient in order of identity, those after ``after``."""
        place = after or _START
        rows = await self._database.fetch(
            _NOTE + "(device_alias, epoch, counter) > ($4::int, $5::bigint, $6::int) "
            "ORDER BY device_alias, epoch, counter LIMIT $7",
            *self._scope,
            patient_id,
            place.device_alias,
            place.epoch,
            place.counter,
            limit,
        )
        key = await self._keys.get(patient_id)
        return [sealing.open_note(key, ResultId(row[0], row[1], row[2]), row[3]) for row in rows]

    async def note(self, patient_id: str, note: ResultId) -> NoteRow | None:
        """One note of a patient, if there is one with this identity."""
        row = await self._database.fetchrow(
            _NOTE + "device_alias = $4 AND epoch = $5 AND counter = $6",
            *self._scope,
            patient_id,
            note.device_alias,
            note.epoch,
            note.counter,
        )
        return None if row is None else sealing.open_note(await self._keys.get(patient_id), note, row["row_sealed"])

    async def overtaken_of(self, results: Sequence[ResultId]) -> Mapping[ResultId, Sequence[Overtaken]]:
        """What was said of results and overtaken, by result, oldest first."""
        rows = await self._database.fetch(
            "SELECT stored.device_alias, stored.epoch, stored.counter, author, field, hlc, row_sum, row_sealed, "
            "patient_id, commit_seq FROM unnest($3::int[], $4::int[], $5::int[]) AS asked(alias, epoch, counter) "
            "JOIN superseded_write AS stored ON shard = $1 AND tenant = $2 AND stored.device_alias = asked.alias "
            "AND stored.epoch = asked.epoch AND stored.counter = asked.counter ORDER BY hlc, author, field",
            *self._scope,
            [result.device_alias for result in results],
            [result.epoch for result in results],
            [result.counter for result in results],
        )
        found: defaultdict[ResultId, list[Overtaken]] = defaultdict(list)
        for row in rows:
            target = ResultId(row["device_alias"], row["epoch"], row["counter"])
            opened = sealing.open_superseded(
                await self._keys.get(row["patient_id"]),
                target,
                row["author"],
                row["field"],
                row["hlc"],
                row["row_sum"],
                row["row_sealed"],
            )
            # What has no place in the feed is history only.
            found[target].append(Overtaken(opened, row["commit_seq"] > 0))
        return found

    async def documents_of(self, patient_id: str) -> list[Document]:
        """Documents of a patient, or of the whole tenant, by name."""
        rows = await self._database.fetch(
            "SELECT name, version, issued_at_ms, body, signature FROM document "
            "WHERE shard = $1 AND tenant = $2 AND patient_id = $3 ORDER BY name",
            *self._scope,
            patient_id,
        )
        key = None if patient_id == WHOLE_TENANT else await self._keys.get(patient_id)
        return [
            Document(
                name=row["name"],
                version=row["version"],
                issued_at_ms=row["issued_at_ms"],
                body=row["body"]
                if key is None
                else sealing.open_document(key, row["name"], row["version"], row["body"]),
                signature=row["signature"],
            )
            for row in rows
        ]
