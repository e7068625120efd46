"""Finds entries of the log: one by its number, or a run of those that concern a patient, or of all.

It deliberately verifies nothing: ``verification`` says whether the log holds, at the cost of reading all of it.

Invariants:
    1. Entries come in the order of the log, or the other way round; a place in it stays valid, as nothing is removed.
    2. One call reads at most as many rows as it is told to.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from einthoven_server.audit import rows
from einthoven_server.audit.chain import Entry
from einthoven_server.database import Database, Scope

_ENTRY: Final = (
    "SELECT seq, at_ms, actor, operation, patient, outcome, role, resource, resource_id, purpose, others, previous, "
    "mac, form FROM audit_entry WHERE shard = $1 AND tenant = $2"
)
_ONE: Final = f"{_ENTRY} AND seq = $3"
_BOUNDS: Final = "AND seq > $3 AND seq < $4 ORDER BY seq"
_LAST: Final = (1 << 63) - 1


def _all(order: str) -> str:
    return f"{_ENTRY} {_BOUNDS} {order} LIMIT $5"


def _of_patient(order: str) -> str:
    """Two runs, each by its index; an entry that names the patient twice comes once."""
    first = f"{_ENTRY} AND patient = $6 {_BOUNDS} {order} LIMIT $5"
    further = (
        f"{_ENTRY} AND others <> '' AND patient <> $6 AND $6 = ANY(string_to_array(others, ' ')) "
        f"{_BOUNDS} {order} LIMIT $5"
    )
    return f"SELECT * FROM (({first}) UNION ALL ({further})) AS found ORDER BY seq {order} LIMIT $5"  # noqa: S608


_STATEMENTS: Final = {
    (descending, one): (_of_patient if one else _all)("DESC" if descending else "")
    for descending in (False, True)
    for one in (False, True)
}


class Run(NamedTuple):
    """Which entries are asked for.

    Attributes:
        patient: Whom they concern; ``None`` for all entries.
        behind: The number of the entry behind which the run begins, in its order; ``None`` for the beginning.
        descending: Whether the latest comes first.
        rows_max: How many at most.
    """

    patient: str | None
    behind: int | None
    descending: bool
    rows_max: int


class AuditSearch:
    """Entries of one tenant's log.

    Args:
        database: Where it is.
        scope: Shard and tenant.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope

    async def entry(self, seq: int) -> Entry | None:
        """An entry by its number.

        Raises:
            Busy: The database can't be reached.
        """
        row = await self._database.fetchrow(_ONE, *self._scope, seq)
        return None if row is None else rows.entry_of(row)

    async def run(self, run: Run) -> list[Entry]:
        """Entries one behind the other.

        Raises:
            Busy: The database can't be reached.
        """
        bounds = (0, run.behind or _LAST) if run.descending else (run.behind or 0, _LAST)
        patient = () if run.patient is None else (run.patient,)
        statement = _STATEMENTS[run.descending, run.patient is not None]
        found = await self._database.fetch(statement, *self._scope, *bounds, run.rows_max, *patient)
        return [rows.entry_of(row) for row in found]
