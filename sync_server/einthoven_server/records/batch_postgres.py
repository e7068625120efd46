"""One batch's transaction on PostgreSQL: its loads, its feed and its audit events; ``batch_writing`` writes.

It deliberately asks only for what a batch touches: a batch of plain pushes takes a handful of statements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from einthoven_protocol.messages import Cursor, Digest, Owner, ResultId, RowKind, Tombstone
from einthoven_server.audit.chain import Event
from einthoven_server.audit.log import AuditLog
from einthoven_server.database import Connection, Row, Scope
from einthoven_server.patient_keys import is_stale
from einthoven_server.records import batch_writing, feed_statements, sealing, statements
from einthoven_server.records.change_store import (
    SERVER_ALIAS,
    SERVER_WORDS,
    FedRow,
    FeedQuestion,
    Held,
    IdRun,
    NonceUse,
    Patient,
    Wanted,
    Written,
)
from einthoven_server.records.columns import columns_of
from einthoven_server.records.owner_keys import OwnerKeys

_ROW_OCTETS = 64
"""About what a row takes in a message besides what is sealed of it."""


class PostgresBatch:
    """A batch in the making.

    Args:
        connection: Inside the transaction.
        scope: Shard and tenant.
        audit: The tenant's audit log.
        owner_keys: Devices' keys.
        by_month: Whether results lie apart by month.
    """

    def __init__(
        self, connection: Connection, scope: Scope, audit: AuditLog, owner_keys: OwnerKeys, *, by_month: bool = False
    ) -> None:
        self._connection = connection
        self._scope = scope
        self._audit = audit
        self._owner_keys = owner_keys
        self._by_month = by_month

    async def head(self) -> Cursor:
        """Lock the shard and say where it stands."""
        query = statements.HEAD_BY_MONTH if self._by_month else statements.HEAD
        head = await self._connection.fetchrow(query, self._scope.shard)
        return Cursor(head["shard_epoch"], head["commit_seq"])

    async def remember(self, nonces: Sequence[NonceUse], now_ms: int) -> list[bool]:
        """Use nonces and forget expired ones."""
        await self._connection.execute(statements.FORGET_NONCES, self._scope.shard, now_ms)
        rows = await self._fetch(statements.REMEMBER_NONCES, *columns_of(nonces, 3))
        unused = {(row[0], row[1]) for row in rows}
        fresh = []
        for use in nonces:
            fresh.append((use.alias, use.nonce) in unused)
            unused.discard((use.alias, use.nonce))
        return fresh

    async def load(self, wanted: Wanted) -> Held:
        """What is known of what a batch touches."""
        held = Held()
        if wanted.keys:
            await self._load_patients(wanted, held)
        runs: Collection[IdRun] = wanted.result_runs
        if wanted.marks:
            runs = _within(runs, await self._load_marks(wanted, held))
        if runs:
            await self._load_results(runs, held)
        if wanted.note_runs:
            await self._load_notes(wanted, held)
        if wanted.annotations or wanted.targets:
            await self._load_words(wanted, held)
        if wanted.documents:
            for row in await self._fetch(statements.DOCUMENTS, *columns_of(wanted.documents, 2)):
                held.documents[row[0], row[1]] = row[2]
            elsewhere = await self._fetch(statements.NAMED_ELSEWHERE, *columns_of(wanted.documents, 2))
            held.named_elsewhere = {(row[0], row[1]) for row in elsewhere}
        await self._load_server_notes(wanted, held)
        return held

    async def write(self, written: Written) -> None:
        """Write all of it, and the head."""
        await batch_writing.write(self._connection, self._scope, written)

    async def feed(self, asked: Sequence[FeedQuestion], most: Mapping[str, int]) -> list[list[FedRow]]:
        """Rows for each question, in order of commit."""
        found: list[list[FedRow]] = [[] for _ in asked]
        limits = [most[kind] + 1 for kind in feed_statements.KINDS]
        for query, everything, given in (
            (feed_statements.FEED_BY_MONTH if self._by_month else feed_statements.FEED, True, limits),
            (feed_statements.OLD_FEED, False, limits[1:2]),
        ):
            questions = [
                (place, one.device.alias, one.epoch, one.since, one.device.patient_id)
                for place, one in enumerate(asked)
                if one.everything is everything
            ]
            if questions:
                least = [min(one[3] for one in questions)] if query is feed_statements.FEED_BY_MONTH else []
                for row in await self._fetch(query, *columns_of(questions, 5), *given, *least):
                    found[row["place"]].append(_fed(row))
        return found

    async def append(self, events: Sequence[Event]) -> None:
        """Put events on the audit trail."""
        await self._audit.append(self._connection, events)

    async def _load_patients(self, wanted: Wanted, held: Held) -> None:
        await self._load_key_versions(wanted, held)
        patients = list(wanted.keys)
        owners: dict[str, list[Owner]] = {patient_id: [] for patient_id in patients}
        for row in await self._fetch(statements.DEVICES, patients):
            patient_id, alias = row["patient_id"], row["device_alias"]
            key = self._owner_keys.opened(wanted.keys[patient_id], row["device_id"], row["sync_key_sealed"])
            owners[patient_id].append(Owner(alias, key))
            if row["revoked"] and alias in wanted.aliases:
                held.revoked.add(alias)
            if row["shard_epoch"] is not None and alias in wanted.aliases:
                held.cursors[alias] = Cursor(row["shard_epoch"], row["commit_seq"])
        collected = {row[0]: row[1] for row in await self._fetch(statements.HORIZONS, patients)}
        for patient_id in patients:
            held.patients[patient_id] = Patient(tuple(owners[patient_id]), collected.get(patient_id, 0))
        aliases = [owner.device_alias for some in owners.values() for owner in some]
        for row in await self._fetch(statements.DIGESTS, aliases):
            held.digests[row[0], row[1]] = Digest(row[2], int.from_bytes(row[3], "big"))

    async def _load_key_versions(self, wanted: Wanted, held: Held) -> None:
        for patient_id, version, seals in await self._fetch(statements.KEY_VERSIONS, list(wanted.keys)):
            held.key_versions.setdefault(patient_id, {})[version] = seals
        # With a key that was overtaken nothing is opened: the others of this batch are not to suffer for it.
        for patient_id, versions in held.key_versions.items():
            if is_stale(wanted.keys[patient_id], versions):
                del wanted.keys[patient_id]

    async def _load_marks(self, wanted: Wanted, held: Held) -> dict[tuple[int, int], int]:
        """Marks; and by (alias, epoch) up to which counter there can be results at all."""
        highest = {}
        for alias, epoch, results, notes, ahead in await self._fetch(statements.PROGRESS, *columns_of(wanted.marks, 2)):
            if results is not None:
                held.marks[alias, epoch], held.note_marks[alias, epoch] = results, notes
            highest[alias, epoch] = max(results or 0, ahead or 0)
        return highest

    async def _load_results(self, asked: Iterable[IdRun], held: Held) -> None:
        runs = columns_of(list(asked), 4)
        for row in await self._fetch(statements.STORED_SHARES, *runs):
            held.results[ResultId(row[0], row[1], row[2])] = int.from_bytes(row[3], "big")
        for row in await self._fetch(statements.QUARANTINED, *runs):
            held.quarantined[ResultId(row[0], row[1], row[2])] = row[3]
        self._bury(held, await self._fetch(statements.BURIED_RUNS, *runs, RowKind.RESULT))

    async def _load_notes(self, wanted: Wanted, held: Held) -> None:
        runs = columns_of(wanted.note_runs, 4)
        for row in await self._fetch(statements.NOTES, *runs):
            key = wanted.keys.get(row["patient_id"])
            if key is not None:  # else another patient's, which nobody asked for by right
                place = ResultId(row[0], row[1], row[2])
                held.notes[place] = sealing.open_note(key, place, row["row_sealed"])
        self._bury(held, await self._fetch(statements.BURIED_RUNS, *runs, RowKind.NOTE))

    async def _load_words(self, wanted: Wanted, held: Held) -> None:
        asked = [(target.device_alias, target.epoch, target.counter, author) for target, author in wanted.annotations]
        asked += [(target.device_alias, target.epoch, target.counter, "") for target in wanted.targets]
        columns = columns_of(asked, 4)
        for row in await self._fetch(statements.ANNOTATIONS, *columns):
            place, key = (ResultId(row[0], row[1], row[2]), row["author"]), wanted.keys.get(row["patient_id"])
            if key is not None:
                held.annotations[place] = sealing.open_annotation(key, *place, row["row_sealed"])
                origin = row["origin_alias"], row["origin_epoch"]
                held.origins[place] = None if origin[0] is None else origin
        for row in await self._fetch(statements.OVERTAKEN, *columns):
            target, key = ResultId(row[0], row[1], row[2]), wanted.keys.get(row["patient_id"])
            if key is not None:
                named = (target, row["author"], row["field"], row["hlc"], row["row_sum"])
                held.overtaken[sealing.open_superseded(key, *named, row["row_sealed"])] = row["commit_seq"] > 0
        buried = [(int(RowKind.ANNOTATION), *one) for one in asked if one[3]]
        buried += [(one.kind, one.device_alias, one.epoch, one.counter, one.author) for one in wanted.tombstones]
        self._bury(held, await self._fetch(statements.BURIED, *columns_of(buried, 5)))

    async def _load_server_notes(self, wanted: Wanted, held: Held) -> None:
        patients = {
            patient_id
            for alias, patient_id in wanted.server_words.items()
            if (alias, SERVER_WORDS) not in held.digests and patient_id in wanted.keys
        }
        if not patients:
            return
        rows = await self._fetch(statements.SERVER_NOTES, list(patients))
        for patient_id in patients:
            key = wanted.keys[patient_id]
            held.server_notes[patient_id] = tuple(
                sealing.open_note(key, ResultId(SERVER_ALIAS, row["epoch"], row["counter"]), row["row_sealed"])
                for row in rows
                if row["patient_id"] == patient_id
            )

    def _bury(self, held: Held, rows: Iterable[Row]) -> None:
        for kind, alias, epoch, counter, author, hlc in rows:
            held.tombstones[Tombstone(kind, alias, epoch, counter, author)] = hlc

    async def _fetch(self, query: str, *columns: object) -> Sequence[Any]:
        rows: Sequence[Any] = await self._connection.fetch(query, *self._scope, *columns)
        return rows


def _within(runs: Iterable[IdRun], highest: Mapping[tuple[int, int], int]) -> list[IdRun]:
    """Of runs of results, what can be there: a run of new ones, as most are, is not looked for."""
    ends = [(run, min(run[3], highest.get(run[:2], run[3]))) for run in runs]
    return [(alias, epoch, first, end) for (alias, epoch, first, _), end in ends if first <= end]


def _fed(row: Row) -> FedRow:
    sealed, octets = row["row_sealed"], row["octets"]
    size = _ROW_OCTETS + (0 if sealed is None else len(sealed)) + (0 if octets is None else len(octets))
    return FedRow(row["commit_seq"], feed_statements.KINDS[row["kind"]], size, row)
